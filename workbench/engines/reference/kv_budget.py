"""How many blocks the KV cache gets."""

from __future__ import annotations

import os

import torch

from workbench.config import KvBudget, Limits
from workbench.engines.reference.blocks import BLOCK_SIZE
from workbench.errors import UsageError
from workbench.units import format_bytes

AT_MOST = 0.9  # of the memory that is free, where no budget is given


def count_blocks(limits: Limits, max_length: int, token_bytes: int, device: torch.device, reserve: int) -> int:
    """Gives the number of blocks, of which one request must find room in all; `reserve` bytes are left to activations.

    Without a budget: as many as `max_sequences` requests of `max_length` tokens can fill, as far as there is memory.
    """
    block_bytes = token_bytes * BLOCK_SIZE
    budget = limits.kv_budget
    if budget is None:
        wanted = limits.max_sequences * _blocks(max_length)
        count = min(wanted, int(max(0, free_bytes(device) - reserve) * AT_MOST) // block_bytes)
    elif budget.unit == "tokens":
        count = _blocks(int(budget.amount))
    elif budget.unit == "bytes":
        count = int(budget.amount) // block_bytes
    else:
        count = (_share_bytes(budget, device) - reserve) // block_bytes
    if count < 1:
        raise UsageError(
            f"the KV budget {budget or 'that is left'} has no room for one block of {BLOCK_SIZE} tokens "
            f"({format_bytes(block_bytes)}): raise limits.kv_budget"
        )
    return count


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_SIZE)


def free_bytes(device: torch.device) -> int:
    """Gives the bytes of a device, or of the host, that nobody uses."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _share_bytes(budget: KvBudget, device: torch.device) -> int:
    """Of a GPU's memory a share is what the whole engine may have, as vLLM means it; on the host, of what is free."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(total * budget.amount / 100 - (total - free))
    return int(free_bytes(device) * budget.amount / 100)
