"""The host's memory: malloc, mmap and their families in every library of the process (kernels/host.c, mappings.c)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from workbench.recorder import native

LATE = "host memory in use before the recording began is not known by owner"
NOT_PRELOADED = "host memory of programs that this one starts is not recorded, unless they are forks of it"
LIBC = "memory that libc allocates for its own use is not recorded"


class Host:
    """The source of host events."""

    name = "host"

    def __init__(self, stacks: str) -> None:
        self._stacks = stacks
        self._patches = False

    def attach(self, spool: native.Spool, late: bool) -> list[str]:
        """Start; where the recorder was not preloaded, the loaded libraries are pointed at it."""
        limits = spool.keep_stacks(self._stacks)
        if late:
            limits.append(LATE)
        native.library().wb_host_on(1)
        if native.library().wb_preloaded():
            return limits + _of_allocator()
        native.patch()
        self._patches = True
        return [*limits, NOT_PRELOADED, LIBC, *_of_allocator()]

    def flush(self) -> None:
        """Nothing waits: an event is in the ring before the call that made it returns."""

    def detach(self) -> list[str]:
        """Stop changing calls of other libraries; a preloaded recorder stops when the spool is closed."""
        if self._patches:
            self._patches = False
            native.library().wb_host_on(0)
            native.unpatch()
        return []


def _of_allocator() -> list[str]:
    """What an allocator that stands before libc's keeps to itself."""
    path = os.fsdecode(native.library().wb_allocator())
    if Path(path).name.startswith("libc.so") or not path:
        return []
    if hasattr(ctypes.CDLL(path, os.RTLD_NOW | os.RTLD_NOLOAD), "_Znwm"):
        return [f"memory that C++ takes with `new` is not recorded: {Path(path).name} serves it by itself"]
    return []
