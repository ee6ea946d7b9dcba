"""The CUDA driver: device, managed, pinned, registered and VMM memory with the library that asked, when copies were
submitted, and used memory around what no call names: contexts, modules, streams, graphs (kernels/driver_*.c).

The hooks stand where programs look the driver's functions up, so they cost nothing a graph's replay or a launch can
show. CUPTI, which tells the same, makes every replay of a graph slower as long as it is in the process.
"""

from __future__ import annotations

import ctypes

from workbench.recorder import native
from workbench.recorder.sources import Unavailable

LATE = "what the CUDA driver had handed out before the recording began is not itemised"
NO_NVML = "contexts, modules, streams and graphs are not itemised: there is no libnvidia-ml.so.1"
IN_GRAPHS = "copies and allocations that are part of a captured graph are not seen when it is replayed"


def has_library(name: str) -> bool:
    """Whether a shared library can be loaded; loading the driver's does not initialise it, which would spoil forks."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def has_cuda() -> bool:
    """Whether the NVIDIA driver is here."""
    return has_library("libcuda.so.1")


class Driver:
    """The source of driver events."""

    name = "driver"

    def __init__(self) -> None:
        self._patches = False

    def attach(self, spool: native.Spool, late: bool) -> list[str]:
        """Start, also where CUDA is loaded later or never."""
        if not has_cuda():
            raise Unavailable("this machine has no NVIDIA driver")
        library = native.library()
        library.wb_driver_on(1)
        if not library.wb_preloaded():
            native.patch()
            self._patches = True
        limits = [IN_GRAPHS, *([] if has_library("libnvidia-ml.so.1") else [NO_NVML])]
        if late:
            library.wb_driver_measures()  # a first reading, where CUDA is in use already
            limits.append(LATE)
        return limits

    def flush(self) -> None:
        """Nothing waits: an event is in the ring before the call that made it returns."""

    def detach(self) -> list[str]:
        """Stop changing calls of other libraries; a preloaded recorder stops when the spool is closed."""
        if self._patches:
            self._patches = False
            native.library().wb_driver_on(0)
            native.unpatch()
        return []
