"""Matrices that kernels of ours multiply rows with on the CPU, in bfloat16, where the processor has the instructions.

Tiles (AMX) read a matrix as it is; products of pairs (AVX512-BF16) read a copy in an order of their own. For a few rows
both are as fast as the memory gives the matrix. Their twin is torch's.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from .layout import require_contiguous
from .on_cpu import library

LEAST_SIDE = 32  # of a matrix for tiles
BESIDE = 32  # outputs whose pairs lie beside each other

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64


@cache
def has_tiles() -> bool:
    """Whether this processor has them, and what compiled the kernels knew them."""
    loaded = library()
    return loaded is not None and bool(loaded.wb_cpu_has_tiles())


@cache
def has_pairs() -> bool:
    """The same of products of pairs."""
    loaded = library()
    return loaded is not None and bool(loaded.wb_cpu_has_pairs())


class _OwnLinear:
    """A matrix [O, I] that the kernel of a name reads, in the order that it reads it in."""

    way: str  # what the kernel multiplies by

    def __init__(self, kernel: str, matrix: Tensor, as_read: Tensor) -> None:
        self._kernel = getattr(library(), kernel)
        self._kernel.argtypes = [_POINTER] * 4 + [_INT] * 3
        self._as_read = as_read
        self._outputs, self._size = matrix.shape

    def __call__(self, x: Tensor, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Gives x [T, I] @ matrix.T, and adds plus [T, O]; in `out`, where that is given. T is at least 1."""
        rows = x.shape[0]
        self._require("x", x, rows, self._size)
        if plus is not None:
            self._require("plus", plus, rows, self._outputs)
        if out is None:
            out = x.new_empty(rows, self._outputs)
        else:
            self._require("out", out, rows, self._outputs)
        plus_address = None if plus is None else plus.data_ptr()
        where = (x.data_ptr(), self._as_read.data_ptr(), plus_address, out.data_ptr())
        if not self._kernel(*where, rows, self._size, self._outputs):
            raise MemoryError(f"no memory for a copy of x {tuple(x.shape)}")
        return out

    def _require(self, name: str, given: Tensor, rows: int, columns: int) -> None:
        """Refuses what the kernel would read or write beyond its end, or as other numbers than it has."""
        if given.shape != (rows, columns) or given.dtype is not torch.bfloat16 or not given.is_contiguous():
            require_contiguous(**{name: given})
            what = f"{name} {tuple(given.shape)}, {given.dtype}"
            raise ValueError(f"{what}, does not fit a matrix {(self._outputs, self._size)}")


class TiledLinear(_OwnLinear):
    """A matrix as it is."""

    way = "tiles"

    def __init__(self, matrix: Tensor) -> None:
        require_contiguous(matrix=matrix)
        super().__init__("wb_cpu_linear_tiles", matrix, matrix)

    @staticmethod
    def serves(matrix: Tensor) -> bool:
        """Whether a matrix can be one."""
        return matrix.dtype == torch.bfloat16 and min(matrix.shape) >= LEAST_SIDE and has_tiles()


class PairedLinear(_OwnLinear):
    """A matrix in the order in which pairs of its numbers are read."""

    way = "pairs"

    def __init__(self, matrix: Tensor) -> None:
        require_contiguous(matrix=matrix)
        super().__init__("wb_cpu_linear_pairs", matrix, _paired(matrix))

    @staticmethod
    def serves(matrix: Tensor) -> bool:
        """Whether a matrix can be one."""
        return matrix.dtype == torch.bfloat16 and matrix.shape[1] % 2 == 0 and has_pairs()


def _paired(matrix: Tensor) -> Tensor:
    outputs, size = matrix.shape
    paired = matrix.new_empty(-(-outputs // BESIDE) * BESIDE * size)
    loaded = library()
    assert loaded is not None  # `has_pairs` was asked
    pair = loaded.wb_cpu_pair
    pair.argtypes, pair.restype = [_POINTER] * 2 + [_INT] * 2, None
    pair(matrix.data_ptr(), paired.data_ptr(), size, outputs)
    return paired
