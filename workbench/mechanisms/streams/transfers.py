"""Transfers, submitted without waiting and ordered with the compute: what an engine uses."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from workbench.errors import WorkbenchError
from workbench.kernels.transfers import (
    FAILED,
    LAP_AT,
    LAPS,
    NOT_READY,
    ON_DEVICE,
    PART,
    RING,
    TAKEN,
    WORDS,
    Given,
    Transfers,
)
from workbench.mechanisms.streams.device import Device, DeviceError
from workbench.mechanisms.streams.values import Value
from workbench.mechanisms.streams.work import Block, Handle, Result, Transfer
from workbench.recorder.probe import Copy, NullProbe, Probe

FACTS = "streams"  # what the facts that a run keeps of it are called
ORDERED, UNORDERED = "ordered", "unordered"

this_process = os.getpid()  # which costs a call of the system each time


def _forked() -> None:
    global this_process
    this_process = os.getpid()


os.register_at_fork(after_in_child=_forked)


class Streams:
    """Transfers of one thread, on streams that a value tells the number of.

    Work that touches the same blocks runs in the order of submission, if the compute is submitted inside `compute`.
    Without order nothing waits for anything and bytes are corrupted: to show just that.
    """

    def __init__(
        self, value: Value, device: Device, compute: int, *, is_ordered: bool = True, probe: Probe | None = None
    ) -> None:
        self.value = value
        self._device = device
        self._probe = probe or NullProbe()
        self._process = this_process  # 0: closed
        self._submitted = self._lap = 0
        self._handles: dict[int, Handle] = {}  # of transfers that are not known to be over, by number
        self._failed: list[Exception] = []
        given = (compute, device.context, value.limit, value.depth, is_ordered, value.has_thread)
        self._native = Transfers(device.functions, Given(*given, self._probe.telling()))
        self._head, self._sleeps, self._ring = self._native.head, self._native.sleeps, self._native.ring
        if self._native.status:
            self._abandon()
            raise DeviceError(device.said(self._native.status))
        facts = {"value": value.name, "limit": value.limit, "depth": value.depth, "has_thread": value.has_thread}
        self._probe.facts(FACTS, facts | {"ordering": ORDERED if is_ordered else UNORDERED})

    @property
    def under_way(self) -> int:
        """How many transfers are not known to be over."""
        return len(self._handles)

    @property
    def on_device(self) -> int:
        """How many of these the device has; the others are held until there is room, or on their way to it."""
        return int(self._native.head[ON_DEVICE])

    def prepare(self, transfers: int) -> None:
        """Make what so many loads, and as many stores, at once need: later nothing has to be made while submitting."""
        self._refuse_misuse()
        on_device = min(transfers, self.value.limit * self.value.depth)
        self._check(self._native.prepare(transfers, 4 * on_device))

    def submit(self, transfer: Transfer) -> Handle:
        """Have a transfer handed on to the device, or where there is no room for it, held until `poll`."""
        # Much of what this touches is not in a cache by the time that an engine submits: it touches little.
        if self._process != this_process:
            self._refuse_misuse()
        number = self._submitted
        if not number % PART:
            self._begin_part(number)
        at, lap, ring = number % RING * WORDS, self._lap, self._ring
        target, source, size_and_way = transfer.words
        ring[at] = target | lap
        ring[at + 1] = source | lap
        ring[at + 2] = size_and_way | lap
        self._submitted = number + 1
        handle = self._handles[number] = Handle(transfer)
        if self._sleeps[0]:
            self._native.go_on()
        return handle

    @contextmanager
    def compute(self, reads: Iterable[Block] = (), writes: Iterable[Block] = ()) -> Iterator[None]:
        """What is launched on the compute stream inside the block is ordered with the transfers of these blocks."""
        self._refuse_misuse()
        blocks = _addresses(reads), _addresses(writes)
        while (status := self._native.begin_step(*blocks)) == NOT_READY:
            self._advance()
        self._check(status)
        self._collect()
        self._raise_failures()
        try:
            yield
        finally:
            self._refuse_misuse()
            self._check(self._native.end_step(*blocks))

    def poll(self, most: int = 256) -> int:
        """Have what is over taken in and what was held handed on, up to `most` of each; gives how many are under way.

        Raises the error of a transfer that failed. With a thread, what it gives is as of the poll before.
        """
        self._refuse_misuse()
        self._native.look(most)
        self._collect()
        self._raise_failures()
        return self.under_way

    def wait(self, handle: Handle) -> None:
        """Wait until a transfer is over, and raise what it failed with."""
        self._refuse_misuse()
        while not handle.is_over:
            self._advance()
        if handle.error:
            self._failed = [error for error in self._failed if error is not handle.error]
            raise handle.error

    def close(self) -> None:
        """Wait for what is under way, and give every stream and event back. Twice is once."""
        if self._process != this_process:  # closed before, or a fork's copy: what it has is its parent's
            self._process = 0
            return
        try:
            while self._handles:
                self._advance()
            self._raise_failures()
        finally:
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

    def _begin_part(self, number: int) -> None:
        """See to it that the next part of the ring has room."""
        self._lap = number // RING % LAPS + 1 << LAP_AT
        if number + PART - self._head[TAKEN] > RING:
            self._native.make_room()

    def _advance(self) -> None:
        """Wait for the device to get on, take in all that is over, and hand on all that there is room for."""
        self._native.advance()
        self._collect()
        self._check(self._failure())

    def _collect(self) -> None:
        """Take in what is over."""
        for number, stream, submitted_ns, call_ns, began_ns, ended_ns, status in self._native.collect():
            handle = self._handles.pop(number)
            error = DeviceError(self._device.said(status)) if status else None
            handle.result = Result(stream, submitted_ns, call_ns, began_ns, ended_ns, error)
            if error:
                self._failed.append(error)
            else:
                self._probe.copy(_told(handle.transfer, handle.result, self._device.number))

    def _raise_failures(self) -> None:
        if self._failed:
            failed, self._failed = self._failed, []
            raise failed[0]
        self._check(self._failure())

    def _failure(self) -> int:
        """What failed on the device and is no transfer's, as a status."""
        status = int(self._head[FAILED])
        self._head[FAILED] = 0
        return status

    def _check(self, status: int) -> None:
        if status:
            raise DeviceError(self._device.said(status))

    def _abandon(self) -> None:
        """Give everything back, also where the device failed under it."""
        self._process = 0
        for handle in self._handles.values():
            handle.result = Result(error=WorkbenchError("the streams were closed before it was over"))
        self._handles.clear()
        self._native.close()


def _addresses(blocks: Iterable[Block]) -> array[int]:
    return array("Q", [block.address for block in blocks])


def _told(transfer: Transfer, result: Result, device: int) -> Copy:
    """A transfer that is over, as a run keeps it."""
    return Copy(transfer.direction, transfer.source.bytes, device, *result[:-1])
