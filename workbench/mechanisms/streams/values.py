"""The values of streams: how many a direction has, and how many transfers may be on one at a time."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar, Protocol

from workbench.errors import UsageError

ANY = sys.maxsize
NEVER_FULL = 255  # transfers whose waits, events and copies a queue of 1,024 has room for


class Value(Protocol):
    """How transfers share streams. Of each direction, loads and stores, there are as many."""

    name: ClassVar[str]

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


@dataclass(frozen=True)
class PerTransfer:
    """A stream of its own for each transfer, lent by a pool; while all are lent, a transfer is held."""

    name: ClassVar[str] = "per-transfer"
    depth: ClassVar[int] = 1
    limit: int = 2048

    def __post_init__(self) -> None:
        """Refuses a pool with nothing to lend."""
        _refuse_none("limit", self.limit)


@dataclass(frozen=True)
class Bounded:
    """A stream of its own for each transfer up to a limit, from where on they share, up to a depth."""

    name: ClassVar[str] = "bounded"
    limit: int = 32
    depth: int = 128

    def __post_init__(self) -> None:
        """Refuses a pool with nothing to lend, and queues that could be full."""
        _refuse_none("limit", self.limit)
        _refuse_none("depth", self.depth)
        if self.depth > NEVER_FULL:
            raise UsageError(f"depth can be up to {NEVER_FULL}, not {self.depth}: a deeper queue can be full")


VALUES: dict[str, type[Single] | type[PerTransfer] | type[Bounded]] = {
    value.name: value for value in (Single, PerTransfer, Bounded)
}


def _refuse_none(what: str, given: int) -> None:
    if given < 1:
        raise UsageError(f"{what} must be at least 1, not {given}")
