"""Transfers, submitted without waiting and ordered with the compute: what an engine uses."""

from __future__ import annotations

import os
import warnings
import weakref
from array import array
from collections import deque
from collections.abc import Iterable
from time import monotonic_ns

from workbench.errors import UsageError, WorkbenchError
from workbench.kernels.transfers import (
    END,
    FAILED,
    FIRST,
    NOT_READY,
    ON_DEVICE,
    OVERLAPS,
    PART,
    RING,
    SLEEPS,
    TAKEN,
    UNDER_WAY,
    WORDS,
    Given,
    Transfers,
)
from workbench.mechanisms.streams.device import Device, DeviceError
from workbench.mechanisms.streams.values import Value
from workbench.mechanisms.streams.work import Block, Result, Transfer
from workbench.recorder.probe import Copy, NullProbe, Probe

FACTS = "streams"  # what the facts that a run keeps of it are called
ORDERED, UNORDERED = "ordered", "unordered"
OVERLAP = (
    "a block overlaps others with work that is not over: cut memory into the same blocks for compute and transfers"
)
NO_ORDER = (
    "a transfer has no order with the compute around it: submit it after the block, "
    "which ends with its traceback where a Ctrl-C came at its very end"
)

alive: weakref.WeakSet[Streams] = weakref.WeakSet()


def _forked() -> None:
    for streams in alive:
        streams._end_part()  # so that the child's next submission is looked at, and refused


os.register_at_fork(after_in_child=_forked)


class Streams:
    """Transfers of one thread, on streams that a value tells the number of.

    Work that touches the same blocks runs in the order of submission, if the compute is submitted inside `compute` and
    the transfers outside. Without order nothing waits for anything and bytes are corrupted: to show just that.
    """

    def __init__(
        self, value: Value, device: Device, compute: int, *, is_ordered: bool = True, probe: Probe | None = None
    ) -> None:
        self.value = value
        self._device = device
        self._probe = probe or NullProbe()
        self._process = 0  # whose they are; 0: nobody's any more, or not yet
        self._at: int = FIRST  # where the next transfer is written
        self._part_ends: int = FIRST
        self._step: weakref.ref[Step] | None = None  # whose end the streams have not been told of
        self._added: list[Transfer] = []  # since those under way were last numbered
        self._under_way: dict[int, Transfer] = {}  # by number
        self._over: deque[tuple[int, ...]] = deque()  # what the native part said of these, and nobody was told yet
        self._untold: dict[int, Copy] = {}  # copies of which the probe is to hear
        self._numbered = 0
        self._failed: list[Exception] = []
        given = (compute, device.context, value.limit, value.depth, is_ordered, value.has_thread)
        self._native = Transfers(device.functions, Given(*given, self._probe.telling()))
        self._shared = self._native.shared
        self._process = os.getpid()
        alive.add(self)
        if self._native.status:
            self._abandon()
            raise DeviceError(device.said(self._native.status))
        facts = {"value": value.name, "limit": value.limit, "depth": value.depth, "has_thread": value.has_thread}
        self._probe.facts(FACTS, facts | {"ordering": ORDERED if is_ordered else UNORDERED})

    @property
    def under_way(self) -> int:
        """How many transfers are not known to be over."""
        return len(self._under_way) + len(self._added)

    @property
    def on_device(self) -> int:
        """How many of these the device has; the others are held until there is room, or on their way to it."""
        return int(self._native.shared[ON_DEVICE])

    def prepare(self, transfers: int) -> None:
        """Make what so many loads, and as many stores, at once need: later nothing has to be made while submitting."""
        self._refuse_misuse()
        if transfers < 0:
            raise UsageError(f"what {transfers} transfers need can not be made: give 0 or more")
        on_device = min(transfers, self.value.limit * self.value.depth)
        self._check(self._native.prepare(transfers, 4 * on_device))

    def submit(self, transfer: Transfer) -> Transfer:
        """Have a transfer handed on to the device, or if there is no room for it, held until `poll`; gives it back."""
        # Hardly any of what this touches is in a cache by the time that an engine submits: it makes and touches little.
        at, shared = self._at, self._shared
        if at == self._part_ends:
            at = self._begin_part()
        if transfer.is_under_way:
            raise WorkbenchError("this transfer is under way: wait for it, or make another one of the same blocks")
        shared[at], shared[at + 1], shared[at + 2] = transfer.words
        shared[at + 3] = monotonic_ns()
        self._at = at + WORDS
        transfer.is_under_way = True
        self._added.append(transfer)
        if shared[SLEEPS]:
            self._native.go_on()
        return transfer

    def compute(self, reads: Iterable[Block] = (), writes: Iterable[Block] = ()) -> Step:
        """What is launched on the compute stream inside the block is ordered with the transfers of these blocks.

        They are to be the same blocks that transfers go from and to, not larger ones around these.
        """
        return Step(self, _pieces(reads), _pieces(writes))

    def poll(self, most: int = 256) -> int:
        """Have what is over taken in and what was held handed on, up to `most` of each; gives how many are under way.

        Raises the error of a transfer that failed. With a thread, what it gives is as of the poll before.
        """
        self._refuse_misuse()
        self._native.look(most)
        self._collect()
        self._raise_failures()
        return self.under_way

    def wait(self, transfer: Transfer) -> None:
        """Wait until a transfer is over, and raise what it failed with."""
        self._refuse_misuse()
        if not (transfer.is_under_way or transfer.is_over):
            raise WorkbenchError("this transfer was never submitted: there is nothing to wait for")
        while transfer.is_under_way:
            if not self.under_way:
                raise WorkbenchError("this transfer was submitted to other streams: wait for it there")
            self._advance()
        if transfer.error:
            self._failed = [error for error in self._failed if error is not transfer.error]
            raise transfer.error

    def close(self) -> None:
        """Wait for what is under way, and give every stream and event back. Twice is once."""
        if self._process != os.getpid():  # closed before, or a fork's copy: what it has is its parent's
            self._process = 0
            return
        try:
            self._native.make_room()  # has all that was submitted taken
            failed = self._finish()
            self._raise_failures()
            self._check(failed)
        finally:
            self._abandon()

    def __del__(self) -> None:
        """Ends the thread and the streams of who forgot to close them."""
        if getattr(self, "_process", 0) == os.getpid():
            warnings.warn("streams were not closed: use them in a `with` block", ResourceWarning, stacklevel=2)
            self.close()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_misuse(self) -> None:
        if self._process == os.getpid():
            return
        if not self._process:
            raise WorkbenchError("these streams are closed: make new ones")
        raise WorkbenchError(f"these streams are process {self._process}'s, and this is its fork: CUDA needs a `spawn`")

    def _begin_step(self, step: Step) -> None:
        self._refuse_misuse()
        if self._is_computing:
            raise WorkbenchError("compute inside of compute has no order of its own: end the outer block first")
        self._end_step()
        self._end_part()  # so that a submission in the block is looked at, and refused
        self._step = weakref.ref(step)
        while (status := self._native.begin_step(step.reads, step.writes)) == NOT_READY:
            self._advance()
        self._check(status)
        self._collect()
        self._raise_failures()

    def _end_step(self) -> None:
        """Have what is submitted from here on wait for the compute, also where a Ctrl-C left its block."""
        if self._step is None:
            return
        self._refuse_misuse()
        status = self._native.end_step()
        self._step = None
        self._part_ends = self._at + self._rest_of_part
        self._check(status)

    @property
    def _is_computing(self) -> bool:
        """Whether there is a block of compute that has not ended, or a traceback that goes through its end."""
        step = self._step() if self._step else None
        return step is not None and step.is_open

    def _begin_part(self) -> int:
        """See to it that the next part of the ring has room, and that there may be one; gives where it begins."""
        self._refuse_misuse()
        if self._is_computing:  # it would come before the block to some, and after it to others
            raise WorkbenchError(NO_ORDER)
        self._end_step()
        if self._numbered + len(self._added) + PART - self._shared[TAKEN] > RING:
            self._native.make_room()
        if self._at == END:
            self._at = FIRST
        self._part_ends = self._at + (self._rest_of_part or PART * WORDS)
        return self._at

    @property
    def _rest_of_part(self) -> int:
        rest: int = (FIRST - self._at) % (PART * WORDS)
        return rest

    def _end_part(self) -> None:
        """Have the next transfer looked at more closely."""
        self._part_ends = self._at

    def _advance(self) -> None:
        """Wait for the device to get on, take in all that is over, and hand on all that there is room for."""
        self._native.advance()
        self._collect()
        self._check(self._failure())

    def _finish(self) -> int:
        """Wait for what is under way, as far as the device gets on; gives what failed first, as a status."""
        failed = 0
        while left := self._shared[UNDER_WAY]:
            self._native.advance()
            self._collect()
            status = self._failure()
            failed = failed or status
            if status and self._shared[UNDER_WAY] == left:
                break
        self._collect()
        return failed

    def _collect(self) -> None:
        """Take in what is over. A Ctrl-C may come before any of these lines, and the next time all is as well."""
        self._under_way.update(enumerate(self._added, self._numbered))
        self._numbered, self._added = self._numbered + len(self._added), []
        self._over.extend(self._native.collect())
        self._native.collected()
        while self._over:
            self._end(*self._over[0])
            self._over.popleft()
        for number in tuple(self._untold):
            self._probe.copy(self._untold[number])
            del self._untold[number]

    def _end(self, number: int, *said: int) -> None:
        transfer = self._under_way.get(number)
        if transfer is None:  # it was said before
            return
        stream, submitted_ns, handed_ns, call_ns, began_ns, ended_ns, status = said
        error = self._error(status) if status else None
        transfer.result = Result(stream, submitted_ns, handed_ns, call_ns, began_ns, ended_ns, error)
        transfer.is_under_way = False
        if error:
            self._failed.append(error)
        else:
            self._untold[number] = _told(transfer, transfer.result, self._device.number)
        del self._under_way[number]

    def _raise_failures(self) -> None:
        if self._failed:
            failed, self._failed = self._failed, []
            raise failed[0]
        self._check(self._failure())

    def _failure(self) -> int:
        """What failed on the device and is no transfer's, as a status."""
        return self._native.failure() if self._shared[FAILED] else 0

    def _check(self, status: int) -> None:
        if status:
            raise self._error(status)

    def _error(self, status: int) -> WorkbenchError:
        return UsageError(OVERLAP) if status == OVERLAPS else DeviceError(self._device.said(status))

    def _abandon(self) -> None:
        """Give everything back, also where the device failed under it."""
        self._process = 0
        self._end_part()
        for transfer in (*self._under_way.values(), *self._added):
            transfer.result = Result(error=WorkbenchError("the streams were closed before it was over"))
            transfer.is_under_way = False
        self._under_way.clear()
        self._added.clear()
        self._native.close()
        self._shared = self._native.shared


class Step:
    """A block of compute, of which its streams know the beginning and the end."""

    def __init__(self, streams: Streams, reads: array[int], writes: array[int]) -> None:
        self._streams = streams
        self.reads, self.writes = reads, writes
        self.is_open = False

    def __enter__(self) -> None:
        self._streams._begin_step(self)
        self.is_open = True

    def __exit__(self, *_: object) -> None:
        self._streams._end_step()
        self.is_open = False


def _pieces(blocks: Iterable[Block]) -> array[int]:
    return array("Q", [number for block in blocks for number in (block.address, block.bytes)])


def _told(transfer: Transfer, result: Result, device: int) -> Copy:
    """A transfer that is over, as a run keeps it."""
    return Copy(transfer.direction, transfer.source.bytes, device, *result[:-1])
