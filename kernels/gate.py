"""The gate of the feed-forward part."""

from __future__ import annotations

import torch
from torch import Tensor

from .layout import require_contiguous

COLUMNS_A_PROGRAM = 1024


def silu_and_multiply(gate_up: Tensor, out: Tensor | None = None) -> Tensor:
    """Gives silu(gate) * up [T, I] of the two halves of gate_up [T, 2 * I]."""
    from . import triton_gate

    require_contiguous(gate_up=gate_up, out=out)
    rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, size) if out is None else out
    grid = (rows, -(-size // COLUMNS_A_PROGRAM))
    triton_gate.silu_and_multiply_kernel[grid](gate_up, out, size, COLUMNS_A_PROGRAM, num_warps=4)
    return out


def silu_and_multiply_twin(gate_up: Tensor, out: Tensor | None = None) -> Tensor:
    """Gives what `silu_and_multiply` gives, by plain torch."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    product = (torch.nn.functional.silu(gate) * up).to(gate_up.dtype)
    return product if out is None else out.copy_(product)
