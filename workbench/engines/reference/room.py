"""Whether a device, or the host, has room for what is asked of it."""

from __future__ import annotations

import torch

from workbench.errors import UsageError
from workbench.mechanisms import free_memory
from workbench.units import format_bytes


def free_bytes(device: torch.device) -> int:
    """Gives the bytes of a device, or of the host, that can still be had."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory.free_bytes()


def refuse_more_than_free(what: str, asked: int, device: torch.device, how: str) -> None:
    """Refuses what is certain not to fit: torch says it in many lines, and the host may end the process instead."""
    free = free_bytes(device)
    if asked > free:
        raise UsageError(f"{what} takes {format_bytes(asked)}, and {format_bytes(free)} are free: {how}")
