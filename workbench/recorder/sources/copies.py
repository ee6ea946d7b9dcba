"""When copies ran on the device, by CUPTI (kernels/copies.c): on request, for CUPTI slows copies and graphs down.

CUPTI is loaded by cupti-python and driven by address; its callbacks are native, because they run inside driver calls,
where waiting for the GIL can deadlock.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from workbench.recorder import native
from workbench.recorder.sources import Unavailable
from workbench.recorder.sources.driver import has_cuda
from workbench.recorder.sources.on_import import on_import

FLUSH_PERIOD_MS = 200
SLOWER = "CUPTI is in the process: copies, launches and replays of graphs are slower than without it"

Address = ctypes.c_void_p


class Cupti:
    """The libcupti that cupti-python loaded: its functions by their C names."""

    def __init__(self) -> None:
        if not has_cuda():
            raise Unavailable("this machine has no NVIDIA driver")
        try:
            cupti, loaded = import_module("cupti.cupti"), import_module("cupti._internal.cupti")
            cupti.get_timestamp()  # loads libcupti
            functions = loaded._inspect_function_pointers()
        except ImportError:
            raise Unavailable("cupti-python is not installed: pip install cupti-python") from None
        except Exception as error:  # of cupti-python's own kinds, one for each thing that is not there
            raise Unavailable(f"CUPTI cannot be loaded: {error}") from None
        self._module = cupti
        self._functions = {name.lstrip("_"): pointer for name, pointer in functions.items()}
        # Not MEMCPY2, copies between devices: with it a flush makes the next replay of a captured graph fail.
        self.kind = int(cupti.ActivityKind.MEMCPY)

    def address(self, name: str) -> int:
        """Where a function of libcupti is."""
        return int(self._functions[name])

    def call(self, name: str, *arguments: Any) -> int:
        """Call a function by its C name; returns its status."""
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(self.address(name))(*arguments))

    def check(self, name: str, *arguments: Any) -> None:
        """Call a function; raises `Unavailable` unless it succeeds."""
        if status := self.call(name, *arguments):
            answer = self._module.Result(status).name
            raise Unavailable(f"{name} answered {answer}: end the tool that uses CUPTI to record when copies run")


class Copies:
    """The source of the times of copies. One a process."""

    name = "copies"

    def __init__(self) -> None:
        self._library = native.library()
        self._runs = False
        self._aside_since: int | None = None
        self._aside_ns = 0
        self._kept_away: str | None = None

    def attach(self, spool: native.Spool, late: bool) -> list[str]:
        """Start; raises `Unavailable` where CUPTI cannot be had."""
        self._cupti = Cupti()
        addresses = (self._cupti.address(f"cuptiActivity{name}") for name in ("GetNextRecord", "FlushAll"))
        self._library.wb_copies_init(*map(Address, addresses))
        self._start()
        _attached[:] = [self]
        _follow_forks_and_profilers()
        return [SLOWER]

    def flush(self) -> None:
        """Everything that happened before the call is in the ring when it returns."""
        if self._runs:
            self._library.wb_copies_flush()

    def detach(self) -> list[str]:
        """Stop, and leave CUPTI to others."""
        self._end_aside()
        self._stop()
        seconds = self._aside_ns / 1e9
        limits = [f"when copies ran was not seen for {seconds:.1f} s: torch.profiler had CUPTI"] if seconds else []
        return limits + ([f"when copies ran was not seen after that: {self._kept_away}"] if self._kept_away else [])

    def step_aside(self) -> None:
        """Leave CUPTI to another tool, until `come_back`. Twice is once."""
        if self._runs:
            self._stop()
            self._aside_since = native.now()

    def come_back(self) -> None:
        """Go on after `step_aside`."""
        if self._aside_since is None:
            return
        self._end_aside()
        try:
            self._start()
        except Unavailable as error:  # the program, which only ends its profile, goes on without
            self._kept_away = str(error)

    def start_in_child(self) -> None:
        """A forked child has none of CUPTI's threads: when its copies are submitted is seen, not when they run."""
        self._runs = False
        self._aside_since = None
        self._library.wb_driver_copies(1)

    def _start(self) -> None:
        cupti, library = self._cupti, self._library
        cupti.check("cuptiActivityRegisterTimestampCallback", _address(library.wb_now))
        buffers = _address(library.wb_on_buffer_requested), _address(library.wb_on_buffer_completed)
        cupti.check("cuptiActivityRegisterCallbacks", *buffers)
        cupti.check("cuptiActivityEnable", cupti.kind)
        library.wb_driver_copies(0)  # told here, with more
        library.wb_copies_start_flusher(FLUSH_PERIOD_MS)
        self._runs = True

    def _stop(self) -> None:
        if self._runs:
            self._runs = False
            self._library.wb_copies_stop_flusher()
            self._cupti.call("cuptiActivityDisable", self._cupti.kind)
            self._cupti.call("cuptiActivityFlushAll", 1)
            self._library.wb_driver_copies(1)

    def _end_aside(self) -> None:
        if self._aside_since is not None:
            self._aside_ns += native.now() - self._aside_since
            self._aside_since = None


_attached: list[Copies] = []  # at most one: the one that follows what the process does


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
