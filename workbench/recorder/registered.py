"""Host memory that was locked where it lies: as long as it is registered its bytes are pinned, and not pageable too.

The allocation that it lies in is cut: given back whole, and what is not registered allocated again. Once nothing of it
is registered any more it is whole again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from workbench.recorder.native import ALLOC, DRIVER, FREE, HOST, PINNED, RANGE, REGISTERED
from workbench.recorder.rows import ROW, Rows, none

Span = tuple[int, int]  # of addresses, the last one excluded


@dataclass
class Cut:
    """An allocation of which parts are registered."""

    row: np.void
    registered: dict[int, Span] = field(default_factory=dict)  # by the address that was registered

    @property
    def span(self) -> Span:
        start = int(self.row["address"])
        return start, start + int(self.row["bytes"])

    def rest(self, kind: int, time_ns: int) -> Rows:
        """Frees or allocations of what is not registered."""
        edges = [self.span[0], *(edge for span in sorted(self.registered.values()) for edge in span), self.span[1]]
        spans = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
        rows = np.array([self.row] * len(spans), ROW)
        rows["kind"], rows["time_ns"] = kind, time_ns
        rows["address"] = [a for a, _ in spans]
        rows["bytes"] = rows["asked"] = [b - a for a, b in spans]
        return rows

    def without(self, start: int, end: int) -> list[Cut]:
        """What is left of it on both sides of a range of addresses."""
        first, last = self.span
        return [self._part(a, b) for a, b in ((first, min(start, last)), (max(end, first), last)) if a < b]

    def _part(self, start: int, end: int) -> Cut:
        row = self.row.copy()
        row["address"], row["bytes"], row["asked"] = start, end - start, end - start
        spans = {at: (max(a, start), min(b, end)) for at, (a, b) in self.registered.items()}
        return Cut(row, {at: (a, b) for at, (a, b) in spans.items() if a < b})


class Registered:
    """Which allocations of a process are cut."""

    def __init__(self) -> None:
        self._cuts: dict[int, Cut] = {}  # by the address of the whole

    def first_concerned(self, batch: Rows) -> int | None:
        """The place of the first event that cuts or mends an allocation, or gives a cut one back."""
        if not self._cuts and not (batch["flags"] & REGISTERED).any():
            return None
        pinned = (batch["layer"] == DRIVER) & (batch["tier"] == PINNED)
        is_free = batch["kind"] == FREE
        registers = (batch["kind"] == ALLOC) & pinned & (batch["flags"] & REGISTERED != 0)
        wholes = np.array(list(self._cuts), np.uint64)
        starts = np.array([start for cut in self._cuts.values() for start in cut.registered], np.uint64)
        ends = is_free & (batch["layer"] == DRIVER) & np.isin(batch["address"], starts)
        given_back = is_free & (batch["layer"] == HOST) & (np.isin(batch["address"], wholes) | self._touched(batch))
        places = np.flatnonzero(registers | ends | given_back)
        return int(places[0]) if len(places) else None

    def _touched(self, batch: Rows) -> npt.NDArray[np.bool_]:
        """Which events give back a range of addresses in which a part of a cut allocation lies."""
        start, end = batch["address"], batch["address"] + batch["bytes"]
        touched = np.zeros(len(batch), np.bool_)
        for first, last in (cut.span for cut in self._cuts.values()):
            touched |= (start < last) & (end > first)
        return np.asarray(touched & (batch["flags"] & RANGE != 0))

    def expand(self, event: np.void, live: Rows) -> Rows:
        """What an event that is concerned makes of the allocations: the events to take in its place."""
        one = np.array([event], ROW)
        time_ns, start = int(event["time_ns"]), int(event["address"])
        if event["layer"] == HOST and event["flags"] & RANGE:
            return np.concatenate([self._give_back(start, start + int(event["bytes"]), time_ns), one])
        if event["layer"] == HOST:
            cut = self._cuts.pop(start, None)
            return one if cut is None else cut.rest(FREE, time_ns)
        if event["kind"] == ALLOC:
            return np.concatenate([self._cut(start, start + int(event["bytes"]), time_ns, live), one])
        return np.concatenate([one, self._mend(start, time_ns)])

    def _cut(self, start: int, end: int, time_ns: int, live: Rows) -> Rows:
        made = [none()]
        reach = live["address"] + live["bytes"]
        for row in live[(live["layer"] == HOST) & (live["address"] < end) & (reach > start)]:
            cut = self._of(row)
            part = max(start, cut.span[0]), min(end, cut.span[1])
            if any(a < part[1] and b > part[0] for a, b in cut.registered.values()):
                continue  # a part of it is pinned already
            made.append(cut.rest(FREE, time_ns))
            cut.registered[start] = part
            made.append(cut.rest(ALLOC, time_ns))
        return np.concatenate(made)

    def _of(self, row: np.void) -> Cut:
        """The cut allocation that a row is the rest of; a new one where it is whole."""
        at = int(row["address"])
        for cut in self._cuts.values():
            if cut.span[0] <= at < cut.span[1]:
                return cut
        return self._cuts.setdefault(at, Cut(row.copy()))

    def _give_back(self, start: int, end: int, time_ns: int) -> Rows:
        made = [none()]
        for address, cut in list(self._cuts.items()):
            if cut.span[0] >= end or cut.span[1] <= start:
                continue
            made.append(cut.rest(FREE, time_ns))
            del self._cuts[address]
            for part in cut.without(start, end):
                made.append(part.rest(ALLOC, time_ns))
                if part.registered:
                    self._cuts[part.span[0]] = part
        return np.concatenate(made)

    def _mend(self, start: int, time_ns: int) -> Rows:
        made = [none()]
        for address, cut in list(self._cuts.items()):
            if start not in cut.registered:
                continue
            made.append(cut.rest(FREE, time_ns))
            del cut.registered[start]
            made.append(cut.rest(ALLOC, time_ns))
            if not cut.registered:
                del self._cuts[address]
        return np.concatenate(made)
