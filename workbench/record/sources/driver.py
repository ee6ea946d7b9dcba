"""Watches the CUDA driver through CUPTI: device, pinned, managed and VMM allocations with the library that asked,
copies, and used memory around contexts, modules, streams and graphs, which no allocation record shows.

CUPTI is loaded and driven by cupti-python; the callbacks are native (kernels/driver.c), because they run inside driver
calls, where waiting for the GIL can deadlock and where Python would cost microseconds an event.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from workbench.record import native
from workbench.record.sources import Unavailable
from workbench.record.sources.cupti_library import Address, Cupti, driver_api
from workbench.record.sources.on_import import on_import

FLUSH_PERIOD_MS = 200

ALREADY_ALLOCATED = "what the CUDA driver had handed out before the recording began is not itemised"
NOT_MEASURED = (
    "contexts, modules, streams and graphs made after torch.profiler ran are unexplained: it keeps CUPTI's callbacks"
)


class Driver:
    """The source of driver events. One a process."""

    name = "driver"

    def __init__(self, copies: bool = False) -> None:
        """`copies`: also when each copy ran on the device, for which CUPTI slows graphs' replays and copies down."""
        self.blind: list[tuple[int, int]] = []
        """From when to when, on the run's clock, CUPTI was given up, to torch.profiler or for speed."""
        self.measures = True
        """Whether contexts, modules, streams and graphs are still seen."""
        self._copies = copies
        self._library = native.library()
        self._subscriber = Address()
        self._runs = False
        self._aside_since: int | None = None
        self._lost = ""

    @property
    def limits(self) -> list[str]:
        """What it could not see since it was attached, a line each."""
        lines = [] if self.measures else [NOT_MEASURED]
        if self.blind:
            seconds = sum(end - start for start, end in self.blind) / 1e9
            lines.append(f"driver events were not seen for {seconds:.1f} s: CUPTI was given up")
        return [*lines, self._lost] if self._lost else lines

    def attach(self, spool: native.Spool, late: bool) -> list[str]:
        """Start; returns what it cannot see here, and raises `Unavailable` where CUPTI or NVML cannot be had."""
        self._cupti = Cupti(self._copies)
        self._library.wb_driver_init(ctypes.byref(driver_api(self._cupti)))
        if status := self._start():
            error = self._cupti.error(status)
            raise Unavailable(f"CUPTI is in use by another tool ({error}): end that tool to record the driver")
        _follow_process(self)
        return [ALREADY_ALLOCATED] if late else []

    def flush(self) -> None:
        """Everything that happened before the call is in the ring when it returns."""
        if self._runs:
            self._library.wb_driver_flush()

    def detach(self) -> list[str]:
        """Stop, and leave CUPTI to others."""
        self._end_aside()
        self._stop()
        return self.limits

    @property
    def runs(self) -> bool:
        """Whether driver events are seen now."""
        return self._runs

    def let_go(self) -> None:
        """Take CUPTI out of the process, until `come_back`, for a stretch where speed matters most.

        As long as CUPTI is in, a CUDA graph's replay costs about 0.15 us a node more of the launching thread and
        0.25 us of the device. Driver events of the stretch are not seen; it is added to `blind`.
        """
        if self._runs:
            self.step_aside()
            self._cupti.check("cuptiFinalize")

    def step_aside(self) -> None:
        """Leave CUPTI to another tool, until `come_back`. Twice is once."""
        if self._runs:
            self._stop()
            self._aside_since = native.now()

    def come_back(self) -> None:
        """Go on after `step_aside` or `let_go`, with what can be had of CUPTI by then."""
        if self._aside_since is None:
            return
        try:
            self.measures = self._start() == 0
        except Unavailable as error:  # the program that just ended its profile must not fail for it
            self._lost = f"no driver event was seen after torch.profiler ran: {error}"
        self._end_aside()

    def start_in_child(self) -> None:
        """Start anew in a forked child, which has none of CUPTI's threads."""
        if not self._runs:
            return
        self._runs = False
        self._subscriber = Address()
        if not _cuda_is_initialized():  # else the child cannot use CUDA
            self._cupti.call("cuptiFinalize")
            self._start()

    def _start(self) -> int:
        """Take CUPTI; returns the status of the subscription, without which only allocations and copies are seen."""
        cupti, library = self._cupti, self._library
        status = cupti.call("cuptiSubscribe", ctypes.byref(self._subscriber), _address(library.wb_on_callback), None)
        if status and self._aside_since is None:
            return status
        self._runs = True
        try:
            if status == 0 and (error := library.wb_driver_watch(self._subscriber)):
                raise Unavailable(f"CUPTI refused its callbacks: {cupti.error(error)}")
            cupti.check("cuptiActivityRegisterTimestampCallback", _address(library.wb_now))
            buffers = _address(library.wb_on_buffer_requested), _address(library.wb_on_buffer_completed)
            cupti.check("cuptiActivityRegisterCallbacks", *buffers)
            cupti.check("cuptiActivityEnableAllocationSource", 1)
            for kind in cupti.kinds:
                cupti.check("cuptiActivityEnable", int(kind))
        except Unavailable:
            self._stop()
            raise
        library.wb_driver_start_flusher(FLUSH_PERIOD_MS)
        return status

    def _stop(self) -> None:
        if self._runs:
            self._runs = False
            self._library.wb_driver_stop_flusher()
            for kind in self._cupti.kinds:
                self._cupti.call("cuptiActivityDisable", int(kind))
            self._cupti.call("cuptiActivityFlushAll", 1)
        if self._subscriber:
            self._cupti.call("cuptiUnsubscribe", self._subscriber)
            self._subscriber = Address()

    def _end_aside(self) -> None:
        if self._aside_since is not None:
            self.blind.append((self._aside_since, native.now()))
            self._aside_since = None


_attached: list[Driver] = []  # at most one: the one that follows what the process does


def _follow_process(driver: Driver) -> None:
    _attached[:] = [driver]
    _follow_forks_and_profilers()


@functools.cache
def _follow_forks_and_profilers() -> None:
    os.register_at_fork(after_in_child=lambda: _attached[0].start_in_child())
    on_import("torch.autograd.profiler", _share_with)


def _share_with(profiler: ModuleType) -> None:
    """Step aside from before torch.profiler is prepared until it has stopped.

    CUPTI serves one tool at a time: held by us, the profiler would find no CUDA events; held by both, it crashes.
    """
    for start in ("_prepare_profiler", "_enable_profiler"):
        _before(profiler, start, lambda: _attached[0].step_aside())
    _after(profiler, "_disable_profiler", lambda: _attached[0].come_back())


def _cuda_is_initialized() -> bool:
    not_initialized = 3  # CUDA_ERROR_NOT_INITIALIZED
    status: int = ctypes.CDLL("libcuda.so.1").cuDeviceGetCount(ctypes.byref(ctypes.c_int()))
    return status != not_initialized


def _address(function: Any) -> Address:
    return ctypes.cast(function, Address)


def _before(module: ModuleType, name: str, action: Callable[[], None]) -> None:
    """Have `action` called before a function of a module."""
    original = getattr(module, name)

    def both(*arguments: Any, **named: Any) -> Any:
        action()
        return original(*arguments, **named)

    setattr(module, name, both)


def _after(module: ModuleType, name: str, action: Callable[[], None]) -> None:
    """Have `action` called after a function of a module, also when that failed."""
    original = getattr(module, name)

    def both(*arguments: Any, **named: Any) -> Any:
        try:
            return original(*arguments, **named)
        finally:
            action()

    setattr(module, name, both)
