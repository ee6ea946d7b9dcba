"""Address ranges that do not overlap, each with a number attached."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

Range = tuple[int, int]
"""Start and end; the end is outside."""


class Intervals:
    """The ranges in use at one moment, sorted by address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._found: dict[int, tuple[int, int]] = {}  # start -> end, number

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return iter(self.within(0, 1 << 65))

    def add(self, start: int, end: int, number: int) -> None:
        """Put in a range; it must not overlap one that is there."""
        insort(self._starts, start)
        self._found[start] = (end, number)

    def remove(self, start: int) -> None:
        """Take out the range that begins at `start`."""
        del self._starts[bisect_left(self._starts, start)]
        del self._found[start]

    def within(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """The ranges that overlap [start, end): start, end and number of each."""
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._found[self._starts[first]][0] <= start:
            first += 1
        last = bisect_left(self._starts, end)
        return [(at, *self._found[at]) for at in self._starts[first:last]]

    def gaps(self, start: int, end: int) -> list[Range]:
        """The parts of [start, end) that no range covers."""
        return subtract((start, end), [(a, b) for a, b, _ in self.within(start, end)])


def subtract(whole: Range, parts: list[Range]) -> list[Range]:
    """What is left of `whole` without `parts`, which are sorted and do not overlap."""
    left, (at, end) = [], whole
    for a, b in parts:
        if a > at:
            left.append((at, min(a, end)))
        at = max(at, b)
        if at >= end:
            return left
    return [*left, (at, end)]
