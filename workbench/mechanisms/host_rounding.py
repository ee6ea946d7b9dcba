"""What host memory takes beyond what is asked for, by the way it is had: known without having it."""

from __future__ import annotations

import mmap
import os
import resource

from workbench.errors import MechanismError, UsageError, nearest
from workbench.mechanisms.free_memory import Lately, free_bytes
from workbench.units import LARGEST, format_bytes

PAGE = mmap.PAGESIZE
ARMS = {
    "pageable": "mapped, never page-locked",
    "pinned-pool": "page-locked by torch's pin_memory, which rounds up to a power of two and keeps what is freed",
    "pinned-pool-exact": "the same pool told neither to round nor to keep, for the whole process: from torch 2.13 on",
    "host-alloc": "page-locked by cudaHostAlloc, mapped into the GPU's addresses",
    "host-register": "mapped, then page-locked by cudaHostRegister",
}

_lately = Lately()


def taken_bytes(arm: str, asked: int) -> int:
    """Gives the bytes that an arm takes for so many: whole pages, or in torch's pool the next power of two."""
    if arm not in ARMS:
        raise UsageError(f"there is no way {arm!r} to have host memory: {nearest(arm, ARMS)}")
    check_size(asked)
    if not asked:
        return 0
    rounded = 1 << (asked - 1).bit_length() if arm == "pinned-pool" else asked
    return -(-rounded // PAGE) * PAGE


def check_size(asked: int) -> None:
    """Refuses what is no size of memory."""
    if not 0 <= asked <= LARGEST:
        raise UsageError(f"{asked} bytes can not be had: give 0 to {LARGEST}")


def refuse_more_than_there_is(arm: str, asked: int) -> None:
    """Refuses what would end in the kernel killing a process, since page-locking it takes every page at once."""
    taken = taken_bytes(arm, asked)
    if not _lately.has(taken) and taken > (free := free_bytes()):
        rounded = f", which takes {format_bytes(taken)}" if taken > asked + PAGE else ""
        raise MechanismError(
            f"{format_bytes(asked)} by {arm}{rounded}: out of memory, this host has {format_bytes(free)} free"
        )


def why_not_had(asked: int, said: str) -> str:
    """Gives the likeliest reason why so many bytes could not be had, beside what was said."""
    if asked > (free := free_bytes()):
        return f"{said}; out of memory: this host has {format_bytes(free)} free"
    return said


def why_not_locked(asked: int, said: str) -> str:
    """Gives the likeliest reason why so many bytes could not be page-locked, beside what CUDA said."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and asked > limit and os.geteuid():
        return f"{said}; the locked-memory limit is {format_bytes(limit)}: raise it with `ulimit -l`"
    return why_not_had(asked, said)
