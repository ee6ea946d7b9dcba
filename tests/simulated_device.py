"""A simulated device: queues of limited room, events and copies without a GPU, and every order that a device may take.

Work is made of small steps (a copy reads, and later writes), and the next step may be that of any stream which can go
on. Nothing goes on by itself: only while a submission finds no room, or somebody waits, or a test runs it.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from workbench.mechanisms.streams.device import DeviceError

COMPUTE = 1  # the stream that is there from the start
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


class SimulatedDevice:
    """Counts what is made and destroyed, and how often a submission found no room."""

    number = 0

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
        self._numbers = iter(range(COMPUTE + 1, 1 << 62))
        self._needs: dict[int, object] = {}  # of the first work of a stream

    # --- what streams need of a device

    def make_stream(self) -> int:
        self._may_fail("make_stream")
        stream = next(self._numbers)
        self.queues[stream] = deque()
        return stream

    def destroy_stream(self, stream: int) -> None:
        assert not self.queues.pop(stream), "a stream was destroyed under its work"

    def make_event(self) -> int:
        self._may_fail("make_event")
        event = next(self._numbers)
        self.events[event] = Event()
        return event

    def destroy_event(self, event: int) -> None:
        del self.events[event]

    def record(self, event: int, stream: int) -> None:
        self._may_fail("record")
        recorded = self.events[event]
        recorded.recorded += 1

        def happens(number: int = recorded.recorded) -> Steps:
            yield None
            recorded.happened, recorded.time_ns = number, time.monotonic_ns()

        self._submit(stream, happens())

    def wait(self, stream: int, event: int) -> None:
        self._may_fail("wait")
        awaited = self.events[event]

        def waits(number: int = awaited.recorded) -> Steps:
            yield lambda: awaited.happened >= number

        self._submit(stream, waits())

    def hand_on(
        self,
        stream: int,
        waits: Sequence[int],
        begin: int,
        target: int,
        source: int,
        size: int,
        direction: int,
        end: int,
    ) -> tuple[int, int]:
        start = time.monotonic_ns()
        for event in waits:
            self.wait(stream, event)
        if begin:
            self.record(begin, stream)
        self.copy(target, source, stream)
        self.record(end, stream)
        return start, time.monotonic_ns() - start

    def copy(self, target: int, source: int, stream: int) -> None:
        self._may_fail("copy")

        def copies() -> Steps:
            yield None
            read = self.memory.get(source)
            yield None
            self.memory[target] = read

        self._submit(stream, copies())

    def has_happened(self, event: int) -> bool:
        return self.events[event].happened == self.events[event].recorded

    def synchronise(self, stream: int) -> None:
        while self.queues[stream]:
            self.go_on()

    def time_ns(self, event: int) -> int:
        assert self.has_happened(event)
        return self.events[event].time_ns

    def calibrate(self) -> None:
        assert not any(queue for stream, queue in self.queues.items() if stream != COMPUTE)

    # --- what tests do with it

    def launch(self, *actions: Callable[[], object]) -> None:
        """Compute: each action is a step of its own."""

        def runs() -> Steps:
            for action in actions:
                yield None
                action()

        self._submit(COMPUTE, runs())

    def launch_long(self) -> None:
        """Compute that ends when nothing else can go on."""
        self._submit(COMPUTE, iter([OPENS_ALONE]))

    def go_on(self) -> None:
        """One step of any stream that can go on."""
        ready = [stream for stream in self.queues if self._can_go_on(stream)]
        if not ready:
            ready = [stream for stream, queue in self.queues.items() if queue and self._needs[stream] is OPENS_ALONE]
        assert ready, "everything waits for something else"
        self._step(self.choose(ready))

    def run(self, steps: int) -> None:
        """So many steps, or all that there are."""
        for _ in range(steps):
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
        self.made[call] += 1
        if call in self.failing:
            self.failing[call] -= 1
        if call in self.broken or self.failing.get(call) == -1:
            raise DeviceError(f"{call} failed")
