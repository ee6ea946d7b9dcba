"""Matrices on the CPU, each in the form that rows are multiplied with fastest: by a kernel of ours, oneDNN or torch."""

from __future__ import annotations

import torch

from workbench.engines.reference.model import Linear
from workbench.kernels.cpu_linear import PairedLinear, TiledLinear


def prepared(matrix: torch.Tensor) -> Linear:
    """Gives a matrix in the form that is multiplied with fastest here."""
    for own in (TiledLinear, PairedLinear):
        if own.serves(matrix):
            made: Linear = own(matrix)
            return made
    return PackedLinear(matrix) if has_onednn_for(matrix.dtype) else PlainLinear(matrix)


def has_onednn_for(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies such numbers here: half the bits it does only where the processor has instructions."""
    asked = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype)
    is_there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_there and (asked is None or getattr(torch.ops.mkldnn, f"_is_mkldnn_{asked}_supported")())


class PlainLinear:
    """A matrix as it is."""

    way = "torch"

    def __init__(self, matrix: torch.Tensor) -> None:
        self._matrix = matrix

    def __call__(
        self, x: torch.Tensor, plus: torch.Tensor | None = None, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        product = torch.mm(x, self._matrix.t(), out=out)
        return product if plus is None else product.add_(plus)


class PackedLinear:
    """A matrix in oneDNN's own order, which saves the reordering that every multiplication else begins with."""

    way = "onednn"

    def __init__(self, matrix: torch.Tensor) -> None:
        self._packed = torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous())
        self._call = torch.ops.mkldnn._linear_pointwise

    def __call__(
        self, x: torch.Tensor, plus: torch.Tensor | None = None, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        if plus is None:
            product: torch.Tensor = self._call(x, self._packed, None, "none", [], "")
        else:
            product = self._call.binary(x, plus, self._packed, None, "add")
        return product if out is None else out.copy_(product)
