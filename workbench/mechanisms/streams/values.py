"""The values of streams: how many a direction has, and how many transfers may be on one at a time."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from workbench.errors import UsageError

ANY = sys.maxsize
FITTING = 0  # a depth: as many as leave half of the queues to compute

# All streams of a process share a few queues of the device, dealt out to them in turn. Behind a long step on an H200
# the first call that waits for room is the 1021st with a stream each way, the 2722nd with one a transfer, and the
# 4050th on 64: an entry is a copy or an event that is recorded, and what a stream waits for takes none.
ROOM = 1022  # entries of a queue
OF_ITS_OWN, SHARING = 3, 2  # entries of a transfer: it records an event before it too where none on its stream is
MOST_SHARING = 255  # transfers on one stream, which leaves room for events before those that have to wait


class Value(Protocol):
    """How transfers share streams. Of each direction, loads and stores, there are as many."""

    name: ClassVar[str]

    @property
    def has_thread(self) -> bool:
        """Whether a thread hands transfers on to the driver, and not who submits them."""

    @property
    def limit(self) -> int:
        """Streams at most."""

    @property
    def depth(self) -> int:
        """Transfers at most on one stream. What does not fit anywhere is held until `poll`."""


@dataclass(frozen=True)
class Single:
    """One stream for loads and one for stores, as deep as it gets: with a full queue, submitting waits."""

    name: ClassVar[str] = "single"
    limit: ClassVar[int] = 1
    depth: ClassVar[int] = ANY
    has_thread: bool = False


@dataclass(frozen=True)
class PerTransfer:
    """A stream of its own for each transfer, lent by a pool; while all are lent, a transfer is held."""

    name: ClassVar[str] = "per-transfer"
    depth: ClassVar[int] = 1
    limit: int = field(default_factory=lambda: _room_beside_compute() // OF_ITS_OWN)
    has_thread: bool = True

    def __post_init__(self) -> None:
        """Refuses a pool with nothing to lend, and one that could fill the queues."""
        _refuse_none("limit", self.limit)
        _refuse_full(self.limit)


@dataclass(frozen=True)
class Bounded:
    """A stream of its own for each transfer up to a limit, from where on they share, up to a depth."""

    name: ClassVar[str] = "bounded"
    limit: int = 32
    depth: int = FITTING
    has_thread: bool = True

    def __post_init__(self) -> None:
        """Refuses a pool with nothing to lend, and one that could fill the queues."""
        _refuse_none("limit", self.limit)
        _refuse_full(self.limit)
        if self.depth == FITTING:
            object.__setattr__(self, "depth", max(1, _depth(_room_beside_compute(), self.limit)))
        _refuse_none("depth", self.depth)
        most = _depth(_room(), self.limit)
        if self.depth > most:
            told = f"with limit {self.limit} depth can be up to {most}, not {self.depth}"
            raise UsageError(f"{told}: more could fill the device's queues")


VALUES: dict[str, type[Single] | type[PerTransfer] | type[Bounded]] = {
    value.name: value for value in (Single, PerTransfer, Bounded)
}


def queues() -> int:
    """Gives how many queues the streams of this process share: 8, or what CUDA is told, from 1 to 32."""
    told = os.environ.get("CUDA_DEVICE_MAX_CONNECTIONS", "")
    return min(max(int(told), 1), 32) if told.isdecimal() else 8


def _room() -> int:
    """Entries that each direction can have."""
    return queues() * ROOM // 2


def _room_beside_compute() -> int:
    """Entries that each direction should have: compute is in these queues too, and an engine is ahead with it."""
    return _room() // 2


def _depth(room: int, streams: int) -> int:
    return min((room // streams - OF_ITS_OWN + SHARING) // SHARING, MOST_SHARING)


def _refuse_full(streams: int) -> None:
    most = _room() // OF_ITS_OWN
    if streams > most:
        raise UsageError(f"limit can be up to {most}, not {streams}: more could fill the device's queues")


def _refuse_none(what: str, given: int) -> None:
    if not isinstance(given, int):
        raise UsageError(f"{what} must be a whole number, not {given!r}")
    if given < 1:
        raise UsageError(f"{what} must be at least 1, not {given}")
