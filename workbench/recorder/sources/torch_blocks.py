"""torch's blocks, of the CPU and of CUDA: hooks in libc10's allocators (kernels/torch_blocks.c)."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from workbench.recorder import native
from workbench.recorder.sources import Unavailable
from workbench.recorder.sources.driver import has_cuda
from workbench.recorder.sources.on_import import on_import
from workbench.units import format_bytes

if TYPE_CHECKING:
    from workbench.recorder.sources.torch_tracker import TorchTracker

LATE = "torch's blocks in use before the recording began are not known"


class TorchBlocks:
    """The source of torch's blocks."""

    name = "torch"

    def __init__(self, minimum: int, ran_out: Callable[[str, str], None]) -> None:
        """`minimum`: bytes; smaller blocks of the CPU are not recorded one by one. `ran_out`: see `all_sources`."""
        self._ran_out = ran_out
        self._minimum = minimum
        self._tracker: TorchTracker | None = None
        self._patches = False
        self._attached = False
        self._limits: list[str] = []

    def attach(self, spool: native.Spool, late: bool) -> list[str]:
        """Start, also where torch is loaded later or never."""
        if not native.library().wb_preloaded():
            native.patch()
            self._patches = True
        self._attached = True
        native.library().wb_torch_on(1)
        native.library().wb_torch_from(self._minimum)
        on_import("torch", self._track)
        return [LATE] if late else []

    def _track(self, torch: ModuleType) -> None:
        """Have torch's CUDA allocator say what was asked for and on which stream."""
        if not self._attached or torch.version.cuda is None or not has_cuda():
            return
        from workbench.recorder.sources.torch_tracker import TorchTracker  # loads much that few programs need

        torch.cuda._lazy_call(lambda: torch._C._cuda_attach_out_of_memory_observer(self._tell))
        try:
            self._tracker = TorchTracker(torch)
        except Unavailable as error:
            self._limits.append(str(error))

    def _tell(self, device: int, asked: int, in_use: int, free: int) -> None:
        """Called by torch just before it raises that a GPU is out of memory."""
        if self._attached:
            number = native.library().wb_device_number(device)
            self._ran_out(f"torch asked GPU {number} for {format_bytes(asked)}, {format_bytes(free)} were free", "gpu")

    def flush(self) -> None:
        """Nothing waits: an event is in the ring before the call that made it returns."""

    def detach(self) -> list[str]:
        """Stop changing torch's calls; a preloaded recorder stops when the spool is closed."""
        self._attached = False
        if self._tracker is not None:
            self._tracker.stop()
            self._tracker = None
        if self._patches:
            self._patches = False
            native.library().wb_torch_on(0)
            native.unpatch()
        return self._limits
