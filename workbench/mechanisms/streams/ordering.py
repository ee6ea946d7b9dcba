"""What waits for what: work that touches the same blocks runs in the order in which it was submitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Protocol

from workbench.mechanisms.streams.work import Block, Work


class Ordering(Protocol):
    """What decides what waits for what."""

    name: ClassVar[str]

    def before(self, reads: Iterable[Block], writes: Iterable[Block]) -> list[Work]:
        """What must be over before these blocks are read and written."""

    def add(self, work: Work, reads: Iterable[Block], writes: Iterable[Block]) -> None:
        """Have later work on these blocks wait for this one."""


class Ordered:
    """Who reads a block waits for its writer; who writes it, for its writer and all its readers."""

    name: ClassVar[str] = "ordered"

    def before(self, reads: Iterable[Block], writes: Iterable[Block]) -> list[Work]:
        waits = []  # no comprehensions: they would be most of what this costs
        for block in reads:
            writer = block.writer
            if writer and not writer.is_over:
                waits.append(writer)
        for block in writes:
            writer = block.writer
            if writer and not writer.is_over:
                waits.append(writer)
            for reader in block.readers:
                if not reader.is_over:
                    waits.append(reader)
        return waits

    def add(self, work: Work, reads: Iterable[Block], writes: Iterable[Block]) -> None:
        for block in reads:
            if block.readers:
                block.readers = [other for other in block.readers if not _is_covered(other, work)]
            block.readers.append(work)
        for block in writes:
            block.writer = work
            if block.readers:
                block.readers.clear()


class Unordered:
    """Nothing waits for anything: bytes are corrupted. To show just that."""

    name: ClassVar[str] = "unordered"

    def before(self, reads: Iterable[Block], writes: Iterable[Block]) -> list[Work]:
        return []

    def add(self, work: Work, reads: Iterable[Block], writes: Iterable[Block]) -> None: ...


def _is_covered(earlier: Work, later: Work) -> bool:
    """Whether who waits for `later` need not wait for `earlier` as well."""
    return earlier.is_over or (earlier.stream is not None and earlier.stream == later.stream)


def last_of_each_stream(works: Iterable[Work]) -> list[Work]:
    """What is enough to wait for, of works that are on the device."""
    last: dict[int | None, Work] = {}
    for work in works:
        known = last.get(work.stream)
        if not work.is_over and (known is None or known.number < work.number):
            last[work.stream] = work
    return list(last.values())
