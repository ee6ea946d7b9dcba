"""A simulated device: queues of limited room, events and copies without a GPU, and every order that a device may take.

It stands in for the CUDA driver's functions, behind which nothing of streams differs. Work is made of small steps (a
copy reads, and later writes), and the next step may be that of any stream which can go on. Nothing goes on by itself:
only while a submission finds no room, or somebody waits, or a test runs it.
"""

from __future__ import annotations

import ctypes
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

COMPUTE, CLOCK = 1, 2  # the stream that is there from the start; the first that streams make
OPENS_ALONE = object()  # a step that stays closed until nothing else can go on

Steps = Iterator[object]  # yields before each of its steps what must be so first: see `_can_go_on`


class Event:
    """The last time it was recorded, and the last time that it happened."""

    def __init__(self) -> None:
        self.recorded = self.happened = 0
        self.time_ns = 0


class Whims:
    """Favours some streams over others for long, as a device does where one of them is held up."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._favour: dict[int, float] = {}

    def __call__(self, streams: list[int]) -> int:
        if self._random.random() < 0.1:
            self._favour.clear()
        return max(streams, key=lambda stream: self._favour.setdefault(stream, self._random.random()))


_Pointer, _Made = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
_FUNCTIONS: dict[str, tuple[object, ...]] = {  # what a `struct wb_device` has, in its order, with their arguments
    "make_stream": (_Made, ctypes.c_uint),
    "destroy_stream": (_Pointer,),
    "synchronise": (_Pointer,),
    "wait": (_Pointer, _Pointer, ctypes.c_uint),
    "make_event": (_Made, ctypes.c_uint),
    "destroy_event": (_Pointer,),
    "record": (_Pointer, _Pointer),
    "query": (_Pointer,),
    "elapsed_ms": (ctypes.POINTER(ctypes.c_float), _Pointer, _Pointer),
    "copy_to_device": (_Pointer, _Pointer, ctypes.c_size_t, _Pointer),
    "copy_to_host": (_Pointer, _Pointer, ctypes.c_size_t, _Pointer),
}
CONTEXTS = 2  # functions after those: without them no context is needed
NOT_READY, WENT_WRONG = 600, 999


class RefusedError(Exception):
    """A call fails, as a test asked for."""


class SimulatedDevice:
    """Counts what is made and destroyed, and how often a submission found no room."""

    number = context = 0

    def __init__(self, room: int = 1024, choose: Callable[[list[int]], int] = min) -> None:
        self.room = room
        self.choose = choose  # of the streams that can go on
        self.queues: dict[int, deque[Steps]] = {COMPUTE: deque()}
        self.events: dict[int, Event] = {}
        self.memory: dict[int, object] = {}
        self.found_no_room = 0
        self.deepest: Counter[int] = Counter()  # by stream
        self.made: Counter[str] = Counter()
        self.failing: dict[str, int] = {}  # by name of a call, how many succeed before one fails
        self.broken: set[str] = set()  # calls that always fail
        self.steps = 0  # that it has gone on
        self.noticed: list[str] = []  # what no device may be asked for
        self._lock = threading.RLock()  # streams may have a thread
        self._numbers = iter(range(COMPUTE + 1, 1 << 62))
        self._needs: dict[int, object] = {}  # of the first work of a stream
        self._said = {NOT_READY: "not ready"}
        self._functions = [
            ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(partial(self._called, name))  # type: ignore[arg-type]
            for name, arguments in _FUNCTIONS.items()
        ]
        addresses = [ctypes.cast(function, _Pointer).value for function in self._functions]
        self._table = (_Pointer * (len(addresses) + CONTEXTS))(*addresses)
        self.functions = ctypes.addressof(self._table)

    def said(self, status: int) -> str:
        return self._said[status]

    # --- what streams need of a device: each gives a status, or nothing

    def _called(self, name: str, *arguments: object) -> int:
        call = "copy" if name.startswith("copy") else name
        try:
            with self._lock:
                self.made[call] += 1
                self._may_fail(call)
                return getattr(self, f"_{call}")(*arguments) or 0
        except RefusedError:
            status = WENT_WRONG - 1 - list(_FUNCTIONS).index(name)
            self._said[status] = f"{call} failed"
        except BaseException as error:  # ctypes would print it, and go on
            status = WENT_WRONG
            self._said[status] = repr(error)
            self.noticed.append(f"{name}: {error!r}")
        return status

    def _make_stream(self, made: ctypes.Array[ctypes.c_void_p], _: int) -> None:
        made[0] = stream = next(self._numbers)
        self.queues[stream] = deque()

    def _destroy_stream(self, stream: int) -> None:
        assert not self.queues.pop(stream), "a stream was destroyed under its work"

    def _make_event(self, made: ctypes.Array[ctypes.c_void_p], _: int) -> None:
        made[0] = event = next(self._numbers)
        self.events[event] = Event()

    def _destroy_event(self, event: int) -> None:
        del self.events[event]

    def _record(self, event: int, stream: int) -> None:
        recorded = self.events[event]
        recorded.recorded += 1

        def happens(number: int = recorded.recorded) -> Steps:
            yield None
            recorded.happened, recorded.time_ns = number, time.monotonic_ns()

        self._submit(stream, happens())

    def _wait(self, stream: int, event: int, _: int) -> None:
        awaited = self.events[event]

        def waits(number: int = awaited.recorded) -> Steps:
            yield lambda: awaited.happened >= number

        self._submit(stream, waits())

    def _copy(self, target: int, source: int, size: int, stream: int) -> None:
        def copies() -> Steps:
            yield None
            read = self.memory.get(source)
            yield None
            self.memory[target] = read

        self._submit(stream, copies())

    def _query(self, event: int) -> int:
        return 0 if self._has_happened(event) else NOT_READY

    def _synchronise(self, stream: int) -> None:
        while self.queues[stream]:
            self.go_on()

    def _elapsed_ms(self, elapsed: ctypes.Array[ctypes.c_float], start: int, end: int) -> None:
        assert self._has_happened(start)
        assert self._has_happened(end)
        elapsed[0] = (self.events[end].time_ns - self.events[start].time_ns) / 1e6

    def _has_happened(self, event: int) -> bool:
        return self.events[event].happened == self.events[event].recorded

    # --- what tests do with it

    def launch(self, *actions: Callable[[], object]) -> None:
        """Compute: each action is a step of its own."""

        def runs() -> Steps:
            for action in actions:
                yield None
                action()

        with self._lock:
            self._submit(COMPUTE, runs())

    def launch_long(self) -> None:
        """Compute that ends when nothing else can go on."""
        with self._lock:
            self._submit(COMPUTE, iter([OPENS_ALONE]))

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """No call comes back meanwhile that anybody else makes."""
        with self._lock:
            yield

    def go_on(self) -> None:
        """One step of any stream that can go on."""
        assert self.goes_on(), "everything waits for something else"

    def goes_on(self) -> bool:
        """The same, if there is one."""
        with self._lock:
            ready = [stream for stream in self.queues if self._can_go_on(stream)]
            if not ready:
                waits = self._needs.items()
                ready = [stream for stream, need in waits if need is OPENS_ALONE and self.queues.get(stream)]
            if ready:
                self._step(self.choose(ready))
            return bool(ready)

    def synchronise(self) -> None:
        """Go on until all compute is over."""
        while self.queues[COMPUTE]:
            self.go_on()

    def run(self, steps: int) -> None:
        """So many steps, or all that there are."""
        for _ in range(steps):
            with self._lock:
                if any(self._can_go_on(stream) for stream in self.queues):
                    self.go_on()

    def _submit(self, stream: int, steps: Steps) -> None:
        queue = self.queues[stream]
        self.found_no_room += len(queue) >= self.room
        while len(queue) >= self.room:
            self.go_on()
        queue.append(steps)
        self.deepest[stream] = max(self.deepest[stream], len(queue))
        if len(queue) == 1:
            self._needs[stream] = next(steps)

    def _can_go_on(self, stream: int) -> bool:
        need = self._needs[stream] if self.queues[stream] else OPENS_ALONE
        return need is None or (callable(need) and bool(need()))

    def _step(self, stream: int) -> None:
        self.steps += 1
        queue = self.queues[stream]
        done = object()
        need = next(queue[0], done)
        while need is done:
            queue.popleft()
            need = next(queue[0]) if queue else None
        self._needs[stream] = need

    def _may_fail(self, call: str) -> None:
        if call in self.failing:
            self.failing[call] -= 1
        if call in self.broken or self.failing.get(call) == -1:
            raise RefusedError
