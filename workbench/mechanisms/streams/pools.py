"""What transfers borrow: streams and events, made once and lent again and again."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from workbench.mechanisms.streams.device import Device, DeviceError

if TYPE_CHECKING:
    from workbench.mechanisms.streams.values import Value
    from workbench.mechanisms.streams.work import Handle, Work


class Lane:
    """A stream, and the transfers on it."""

    __slots__ = ("_waited", "ended_ns", "has_room", "lent", "stream", "transfers")

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.transfers: deque[Handle] = deque()  # oldest first
        self.ended_ns = 0  # when the last one that is over was
        self.lent = 0  # to so many of them
        self.has_room = False  # it is shared, and among those with room
        self._waited: dict[int | None, int] = {}  # by other stream, the number of the last work of it

    def must_wait(self, work: Work) -> bool:
        """Whether what comes next would not wait for a work yet. It is taken to do so from here on."""
        if work.is_over or work.stream == self.stream or self._waited.get(work.stream, -1) >= work.number:
            return False
        self._waited[work.stream] = work.number
        return True

    def forget(self) -> None:
        """Nothing is on it any more, so that it need not know what came after what."""
        self._waited.clear()


class Lanes:
    """The lanes of one direction. Who takes one gives it back, whatever happens."""

    def __init__(self, device: Device, value: Value) -> None:
        self._device = device
        self._limit, self._depth = value.limit, value.depth
        self.all: list[Lane] = []
        self._idle: list[Lane] = []
        self._shared: deque[Lane] = deque()  # that more fits on; the one that was given longest ago first

    def take(self) -> Lane | None:
        """A lane that nobody has, else a new one, else one to share; None: there is no room."""
        lane = self._idle.pop() if self._idle else self._new() or self._share()
        if lane is None:
            return None
        lane.lent += 1
        if lane.lent < self._depth:
            self._offer(lane)
        return lane

    def give_back(self, lane: Lane) -> None:
        """One transfer less is on a lane."""
        lane.lent -= 1
        if lane.lent:
            self._offer(lane)
        else:
            lane.forget()
            self._idle.append(lane)

    def prepare(self, transfers: int) -> None:
        """Make what so many transfers at once need."""
        while len(self.all) < min(transfers, self._limit):
            self._idle.append(self._make())

    def close(self) -> None:
        """Destroy the streams."""
        for lane in self.all:
            with suppress(DeviceError):  # where one can not be, the next one may
                self._device.destroy_stream(lane.stream)
        self.all.clear()

    def _new(self) -> Lane | None:
        return self._make() if len(self.all) < self._limit else None

    def _make(self) -> Lane:
        lane = Lane(self._device.make_stream())
        self.all.append(lane)
        return lane

    def _share(self) -> Lane | None:
        if not self._shared:
            return None
        lane = self._shared.popleft()
        lane.has_room = False
        return lane

    def _offer(self, lane: Lane) -> None:
        if not lane.has_room:
            lane.has_room = True
            self._shared.append(lane)


class Events:
    """Events. Who takes one gives it back, whatever happens."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._all: list[int] = []
        self._free: list[int] = []

    def take(self) -> int:
        return self._free.pop() if self._free else self._make()

    def give_back(self, *events: int) -> None:
        """Take back what was lent; 0 is none."""
        for event in events:
            if event:
                self._free.append(event)

    def prepare(self, events: int) -> None:
        """Make what so many at once need."""
        self._free.extend(self._make() for _ in range(events - len(self._all)))

    def close(self) -> None:
        """Destroy the events."""
        for event in self._all:
            with suppress(DeviceError):
                self._device.destroy_event(event)
        self._all.clear()
        self._free.clear()

    def _make(self) -> int:
        self._all.append(self._device.make_event())
        return self._all[-1]
