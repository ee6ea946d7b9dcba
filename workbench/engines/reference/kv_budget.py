"""How much the KV cache gets, and how many blocks that is."""

from __future__ import annotations

import torch

from workbench.config import KvBudget, Limits
from workbench.engines.reference.blocks import BLOCK_SIZE
from workbench.engines.reference.room import free_bytes, refuse_more_than_free
from workbench.errors import UsageError
from workbench.units import format_bytes, shown

AT_MOST = 0.9  # of the memory that is free, where no budget is given,
MOST_OF_HOST = 4 << 30  # and of the host, which is not the engine's own as a GPU is, so many bytes


def room_bytes(limits: Limits, max_length: int, token_bytes: int, device: torch.device, reserve: int) -> int:
    """Gives the bytes that the blocks may take; `reserve` bytes of the device are left to activations.

    Without a budget: as many as `max_sequences` requests of `max_length` tokens can fill, as far as there is memory.
    Many long requests rarely meet, so on the host not more than one of them needs, or than is much.
    """
    block_bytes = token_bytes * BLOCK_SIZE
    budget = limits.kv_budget
    if budget is None:
        one = _blocks(max_length) * block_bytes
        wanted = limits.max_sequences * one
        if device.type == "cpu":
            wanted = min(wanted, max(MOST_OF_HOST, one))
        return min(wanted, int(max(0, free_bytes(device) - reserve) * AT_MOST))
    if budget.unit not in ("tokens", "bytes"):
        return _share_bytes(budget, device) - reserve
    asked = _blocks(int(budget.amount)) * block_bytes if budget.unit == "tokens" else int(budget.amount)
    refuse_more_than_free(f"the KV budget {shown(budget)}", asked, device, "lower limits.kv_budget")
    return asked


def count_blocks(room: int, limits: Limits, token_bytes: int) -> int:
    """Gives the number of blocks that there is room for, one at least: in all of them a request must find its own."""
    block_bytes = token_bytes * BLOCK_SIZE
    if room < block_bytes:
        what = shown(limits.kv_budget) if limits.kv_budget else "that is left"
        raise UsageError(
            f"the KV budget {what} has no room for one block of {BLOCK_SIZE} tokens ({format_bytes(block_bytes)}): "
            "raise limits.kv_budget"
        )
    return room // block_bytes


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_SIZE)


def _share_bytes(budget: KvBudget, device: torch.device) -> int:
    """Of a GPU's memory a share is what the whole engine may have, as vLLM means it; on the host, of what is free."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(total * budget.amount / 100 - (total - free))
    return int(free_bytes(device) * budget.amount / 100)
