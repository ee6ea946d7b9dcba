"""How tensors lie in memory for the kernels and their twins.

The cache of one layer is [slots, 2, KV, D]: a slot holds the key and the value of one token, for every kv head.
Slots come in blocks of 16. The token at position p of sequence b lies in slot
block_table[b, p // 16] * 16 + p % 16.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_SIZE = 16


def slots_of(blocks: Tensor, length: int) -> Tensor:
    """Gives the slots [length] of a sequence's first tokens, from its row of the block table."""
    positions = torch.arange(length, device=blocks.device)
    return blocks[positions // BLOCK_SIZE].long() * BLOCK_SIZE + positions % BLOCK_SIZE


def padded(size: int) -> int:
    """Gives the power of two that a size fits in: Triton knows no other tiles."""
    return 1 << (size - 1).bit_length()


def require_contiguous(**tensors: Tensor | None) -> None:
    """Refuses tensors with gaps: the kernels compute addresses from shapes alone."""
    for name, tensor in tensors.items():
        if tensor is not None and not tensor.is_contiguous():
            raise ValueError(f"{name} of shape {tuple(tensor.shape)} is not contiguous: strides {tensor.stride()}")


def require_rows(block_table: Tensor) -> None:
    """Refuses a block table whose rows have gaps; the rows themselves may lie apart, as in `table[:, :most]`."""
    if block_table.stride(1) != 1:
        raise ValueError(f"the rows of the block table are not contiguous: strides {block_table.stride()}")
