"""The kernels for the CPU, in C with OpenMP: float32 and bfloat16. Their twins are those of the Triton kernels."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .layout import BLOCK_SIZE, require_contiguous

KINDS = {torch.float32: 0, torch.bfloat16: 1}
LARGEST_HEAD = 512

_POINTER, _INT, _FLOAT, _KIND = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_ARGUMENTS = {
    "wb_cpu_norm": [_POINTER] * 3 + [_INT] * 2 + [_FLOAT, _KIND],
    "wb_cpu_gate": [_POINTER] * 2 + [_INT] * 2 + [_KIND],
    "wb_cpu_rotate_and_store": [_POINTER] * 8 + [_INT] * 4 + [_FLOAT, _KIND],
    "wb_cpu_attend": [_POINTER] * 5 + [_INT] * 6 + [_FLOAT, _KIND],
}


@cache
def library() -> ctypes.CDLL | None:
    """Gives the kernels; none where they were not built, or where torch brings no OpenMP that they could share.

    Not linked to one: with a second OpenMP in the process, torch's threads and theirs would wait on the same cores.
    """
    built = Path(__file__).resolve().parent / "_cpu.so"
    try:
        loaded = ctypes.CDLL(str(built))
    except OSError:
        return None
    for name, arguments in _ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None
    return loaded


def serves(dtype: torch.dtype, head_size: int) -> bool:
    """Whether the kernels are there for a model of this kind."""
    return dtype in KINDS and head_size <= LARGEST_HEAD and library() is not None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Gives the norm of every row of x [T, H]."""
    require_contiguous(x=x, weight=weight)
    out = torch.empty_like(x)
    rows, size = x.shape
    _library().wb_cpu_norm(x.data_ptr(), weight.data_ptr(), out.data_ptr(), rows, size, eps, KINDS[x.dtype])
    return out


def silu_and_multiply(gate_up: Tensor) -> Tensor:
    """Gives silu(gate) * up [T, I] of the two halves of gate_up [T, 2 * I]."""
    require_contiguous(gate_up=gate_up)
    rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, size)
    _library().wb_cpu_gate(gate_up.data_ptr(), out.data_ptr(), rows, size, KINDS[gate_up.dtype])
    return out


def rotate_and_store(
    qkv: Tensor,  # [T, (Hq + 2 * KV) * D]
    positions: Tensor,  # [T], int64
    slots: Tensor,  # [T], int64
    cos_sin: Tensor,  # [positions, D], fp32: cosines, then sines
    cache: Tensor,  # [slots, 2, KV, D]
    q_norm: Tensor | None,  # [D]
    k_norm: Tensor | None,  # [D]
    eps: float,
    heads: int,
    kv_heads: int,
) -> Tensor:
    """Gives the rotated queries [T, Hq, D], and writes keys and values into their slots."""
    require_contiguous(qkv=qkv, positions=positions, slots=slots, cos_sin=cos_sin, cache=cache)
    rows, size = qkv.shape[0], cache.shape[-1]
    out = qkv.new_empty(rows, heads, size)
    _library().wb_cpu_rotate_and_store(
        qkv.data_ptr(), positions.data_ptr(), slots.data_ptr(), cos_sin.data_ptr(), cache.data_ptr(),
        _address(q_norm), _address(k_norm), out.data_ptr(), rows, heads, kv_heads, size, eps, KINDS[qkv.dtype],
    )  # fmt: skip
    return out


def attend_decode(
    q: Tensor,  # [B, Hq, D]
    cache: Tensor,  # [slots, 2, KV, D]
    block_table: Tensor,  # [B, blocks], int64
    lengths: Tensor,  # [B], int64: tokens in the cache, the current one among them; at least 1
    scale: float,
) -> Tensor:
    """Gives what one query a sequence reads from the cache [B, Hq, D]."""
    require_contiguous(q=q, cache=cache, block_table=block_table, lengths=lengths)
    out = torch.empty_like(q)
    rows, heads, size = q.shape
    _library().wb_cpu_attend(
        q.data_ptr(), out.data_ptr(), cache.data_ptr(), block_table.data_ptr(), lengths.data_ptr(),
        rows, heads, cache.shape[2], size, block_table.shape[1], BLOCK_SIZE, scale, KINDS[q.dtype],
    )  # fmt: skip
    return out


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _library() -> ctypes.CDLL:
    loaded = library()
    assert loaded is not None  # `serves` was asked
    return loaded
