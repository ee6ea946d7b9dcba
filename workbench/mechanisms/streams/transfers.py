"""Transfers, submitted without waiting and ordered with the compute: what an engine uses."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, islice

from workbench.errors import WorkbenchError
from workbench.mechanisms.streams.device import Device, DeviceError
from workbench.mechanisms.streams.ordering import Ordered, Ordering, last_of_each_stream
from workbench.mechanisms.streams.pools import Events, Lane, Lanes
from workbench.mechanisms.streams.values import Value
from workbench.mechanisms.streams.work import Block, Handle, Transfer, Work
from workbench.recorder.probe import DEVICE_TO_HOST, HOST_TO_DEVICE, Copy, NullProbe, Probe

FACTS = "streams"  # what the facts that a run keeps of it are called
UNFINISHED = 32  # transfers that are looked at in vain before a poll leaves the others to the next one

this_process = os.getpid()  # which costs a call of the system each time


def _forked() -> None:
    global this_process
    this_process = os.getpid()


os.register_at_fork(after_in_child=_forked)


class Way:
    """One direction: its lanes, those that are busy, and what is held because none has room."""

    def __init__(self, device: Device, value: Value) -> None:
        self.lanes = Lanes(device, value)
        self.busy: deque[Lane] = deque()
        self.held: deque[Handle] = deque()


class Streams:
    """Transfers of one thread, on streams that a value tells the number of.

    Work that touches the same blocks runs in the order of submission, if the compute is submitted inside `compute`.
    """

    def __init__(
        self,
        value: Value,
        device: Device,
        compute: int,
        *,
        ordering: Ordering | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.value = value
        self.under_way = 0  # transfers that are not over
        self._device = device
        self._compute = compute
        self._ordering = ordering or Ordered()
        self._probe = probe or NullProbe()
        self._telling = self._probe.telling()
        self._ways = {direction: Way(device, value) for direction in (HOST_TO_DEVICE, DEVICE_TO_HOST)}
        self._events = Events(device)
        self._steps: deque[Work] = deque()
        self._failed: list[BaseException] = []  # of transfers that were held
        self._numbers = count()
        self._process = this_process  # 0: closed
        facts = {"value": value.name, "limit": value.limit, "depth": value.depth, "ordering": self._ordering.name}
        self._probe.facts(FACTS, facts)

    def prepare(self, transfers: int) -> None:
        """Make what so many loads, and as many stores, at once need: later nothing has to be made while submitting."""
        self._refuse_misuse()
        on_device = min(transfers, self.value.limit * self.value.depth)
        self._events.prepare(4 * on_device)
        for way in self._ways.values():
            way.lanes.prepare(transfers)

    def submit(self, transfer: Transfer) -> Handle:
        """Hand a transfer on to the device, or where there is no room for it, hold it until `poll`."""
        self._refuse_misuse()
        reads, writes = (transfer.source,), (transfer.target,)
        handle = Handle(next(self._numbers), transfer, self._ordering.before(reads, writes))
        way = self._ways[handle.direction]
        if way.held or not self._start(handle, way):
            way.held.append(handle)
        self._ordering.add(handle, reads, writes)
        self.under_way += 1
        return handle

    @contextmanager
    def compute(self, reads: Iterable[Block] = (), writes: Iterable[Block] = ()) -> Iterator[None]:
        """What is launched on the compute stream inside the block is ordered with the transfers of these blocks."""
        self._refuse_misuse()
        reads, writes = tuple(reads), tuple(writes)
        waits = self._ordering.before(reads, writes)
        while any(work.is_held for work in waits):
            self._advance()
        self._raise_failures()
        for work in last_of_each_stream(waits):
            self._device.wait(self._compute, work.end)
        step = Work(next(self._numbers), self._compute, self._events.take())
        try:
            yield
        finally:
            self._end_step(step, reads, writes)

    def poll(self, most: int = 256) -> int:
        """Take in what is over and hand on what was held, up to `most` of each; gives how many are under way.

        Raises the error of a transfer that was held and could not be handed on.
        """
        self._refuse_misuse()
        self._take_in_steps()
        for way in self._ways.values():
            self._take_in(way, most, UNFINISHED)
        for way in self._ways.values():
            self._hand_on(way, most)
        if not self.under_way and not self._steps:
            self._device.calibrate()
        self._raise_failures()
        return self.under_way

    def wait(self, handle: Handle) -> None:
        """Wait until a transfer is over, and raise what it failed with."""
        self._refuse_misuse()
        while not handle.is_over:
            self._advance()
        if handle.error:
            raise handle.error

    def close(self) -> None:
        """Wait for what is under way, and give every stream and event back. Twice is once."""
        if self._process != this_process:  # closed before, or a fork's copy: what it has is its parent's
            self._process = 0
            return
        try:
            while self.under_way:
                self._advance()
            self._raise_failures()
        finally:
            self._process = 0
            self._abandon()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_misuse(self) -> None:
        if self._process == this_process:
            return
        if not self._process:
            raise WorkbenchError("these streams are closed: make new ones")
        raise WorkbenchError(f"these streams are process {self._process}'s, and this is its fork: CUDA needs a `spawn`")

    def _start(self, handle: Handle, way: Way) -> bool:
        """Hand a transfer on to the device; returns whether there is room, and what it waits for is there too."""
        for work in handle.waits:
            if work.stream is None and not work.is_over:  # it is held
                return False
        lane = way.lanes.take()
        if lane is None:
            return False
        try:
            self._enqueue(handle, lane)
        except BaseException as error:
            self._undo(handle, way, lane, error)
            raise
        handle.stream, handle.waits = lane.stream, ()
        if not lane.transfers:
            way.busy.append(lane)
        lane.transfers.append(handle)
        return True

    def _enqueue(self, handle: Handle, lane: Lane) -> None:
        source, target, way = handle.transfer.source, handle.transfer.target, handle.direction
        waits = []
        for work in handle.waits:
            if lane.must_wait(work):
                waits.append(work.end)
        if waits or not lane.transfers:
            handle.begin = self._events.take()
        handle.end = self._events.take()
        with self._telling:
            handle.submitted_ns, handle.call_ns = self._device.hand_on(
                lane.stream, waits, handle.begin, target.address, source.address, source.bytes, way, handle.end
            )

    def _undo(self, handle: Handle, way: Way, lane: Lane, error: BaseException) -> None:
        """A transfer failed in the middle: nothing of it may be under way any more, and what it borrowed comes back."""
        for stream in {lane.stream, *(work.stream for work in handle.waits if work.stream is not None)}:
            with suppress(DeviceError):
                self._device.synchronise(stream)
        self._events.give_back(handle.begin, handle.end)
        way.lanes.give_back(lane)
        handle.is_over, handle.error, handle.waits = True, error, ()

    def _end_step(self, step: Work, reads: tuple[Block, ...], writes: tuple[Block, ...]) -> None:
        self._refuse_misuse()
        try:
            self._device.record(step.end, self._compute)
        except BaseException:
            self._events.give_back(step.end)
            raise
        self._ordering.add(step, reads, writes)
        self._steps.append(step)
        if self._device.has_happened(self._steps[0].end):
            self._take_in_steps()

    def _take_in_steps(self) -> None:
        while self._steps and self._device.has_happened(self._steps[0].end):
            step = self._steps.popleft()
            step.is_over = True
            self._events.give_back(step.end)

    def _take_in(self, way: Way, most: int, unfinished: int) -> None:
        """Take in up to `most` transfers that are over; looks in vain at no more than `unfinished`."""
        unfinished = min(unfinished, len(way.busy))
        while way.busy and most and unfinished:
            lane = way.busy[0]
            if self._device.has_happened(lane.transfers[0].end):
                self._end(lane.transfers.popleft(), way, lane)
                most -= 1
            else:
                way.busy.rotate(-1)
                unfinished -= 1

    def _end(self, handle: Handle, way: Way, lane: Lane) -> None:
        time_ns = self._device.time_ns
        try:
            handle.began_ns = time_ns(handle.begin) if handle.begin else max(lane.ended_ns, handle.submitted_ns)
            handle.ended_ns = lane.ended_ns = time_ns(handle.end)
        finally:
            handle.is_over = True
            self.under_way -= 1
            self._events.give_back(handle.begin, handle.end)
            way.lanes.give_back(lane)
            if not lane.transfers:
                way.busy.popleft()
        self._probe.copy(_told(handle, self._device.number))

    def _hand_on(self, way: Way, most: int) -> None:
        for handle in [*islice(way.held, most)]:
            try:
                if not self._start(handle, way):
                    return
            except Exception as error:
                self._failed.append(error)
                if handle.is_held:  # it is not this transfer that failed: no stream could be made
                    return
            finally:
                if not handle.is_held:
                    way.held.popleft()
                    self.under_way -= handle.is_over

    def _raise_failures(self) -> None:
        if self._failed:
            failed, self._failed = self._failed, []
            raise failed[0]

    def _advance(self) -> None:
        """Wait for the device to get on, take in all that is over, and hand on all that there is room for."""
        for way in self._ways.values():
            if way.busy:
                self._device.synchronise(way.busy[0].stream)
        self._take_in_steps()
        for way in self._ways.values():
            self._take_in(way, self.under_way, len(way.busy))
        for way in self._ways.values():
            self._hand_on(way, len(way.held))
        if not any(way.busy for way in self._ways.values()):  # what is held still can not be handed on
            self._raise_failures()

    def _abandon(self) -> None:
        """Give everything back, also where the device failed under it."""
        for way in self._ways.values():
            for handle in [*way.held, *(handle for lane in way.busy for handle in lane.transfers)]:
                handle.is_over, handle.error = True, WorkbenchError("the streams were closed before it was over")
            way.held.clear()
            way.busy.clear()
            way.lanes.close()
        self._steps.clear()
        self._events.close()
        self.under_way = 0


def _told(handle: Handle, device: int) -> Copy:
    """A transfer that is over, as a run keeps it."""
    assert handle.stream is not None
    times = handle.submitted_ns, handle.call_ns, handle.began_ns, handle.ended_ns
    return Copy(handle.direction, handle.transfer.source.bytes, device, handle.stream, *times)
