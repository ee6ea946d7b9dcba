"""The allocations of a tier: each with its size, owner, stack and lifetime; chosen by band, time and text, in pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.errors import UsageError
from workbench.run.columns import Ints, Mask, numbers
from workbench.view.attribution import Attribution
from workbench.view.pairs import pair
from workbench.view.steps import Steps

NEVER = np.iinfo(np.int64).max
ORDERS = ("bytes", "start", "lifetime")


@dataclass(frozen=True)
class Page:
    """Some of the allocations that were asked for, and how many there are."""

    chosen: Ints  # places in the `Allocations`
    count: int
    bytes: int


class Allocations:
    """Every allocation of a tier, in the order of time."""

    def __init__(self, events: pa.Table, made: Attribution, stacks: Ints) -> None:
        self.made = made
        pairs = pair(events, made.rows)
        self.first = pairs.allocs  # places in `made`
        self.last = np.where(pairs.is_freed, pairs.frees, -1)
        self.rows = made.rows[self.first]  # of the events table
        self.starts = made.times_ns[self.first]
        self.ends = np.where(pairs.is_freed, made.times_ns[pairs.frees], NEVER)
        self.keys = made.keys[self.first]
        self.bytes = made.change[self.first]
        self.stacks = stacks[self.rows]  # `stacks` has one for every event

    def of_keys(self, keys: tuple[int, ...]) -> Mask:
        """Which belong to one of these owners and tags."""
        wanted = np.zeros(len(self.made.names) + 1, dtype=bool)
        wanted[list(keys)] = True
        return wanted[self.keys]

    def between(self, start_ns: int, end_ns: int) -> Mask:
        """Which were alive at some time from `start_ns` to `end_ns`; just after it, where both are the same."""
        return (self.starts <= end_ns) & (self.ends > start_ns)

    def page(
        self, which: Mask, order: str = "bytes", descending: bool = True, offset: int = 0, limit: int = 50
    ) -> Page:
        """`limit` of the chosen ones, from number `offset` on in an order: bytes, start or lifetime."""
        if order not in ORDERS:
            raise UsageError(f"allocations can not be ordered by {order!r}; by {', '.join(ORDERS)}")
        places = np.flatnonzero(which)
        by = {"bytes": self.bytes, "start": self.starts, "lifetime": self.ends - self.starts}[order][places]
        ranked = np.argsort(-by if descending else by, kind="stable")
        return Page(places[ranked[offset : offset + limit]], len(places), int(self.bytes[places].sum()))

    def largest_of_each_key(self, most: int) -> Ints:
        """The largest of every owner and tag, the same number of each as far as there are so many."""
        order = np.lexsort((-self.bytes, self.keys))
        begins = np.searchsorted(self.keys[order], np.arange(len(self.made.names)))
        rank = np.arange(len(order)) - begins[self.keys[order]]
        return np.sort(order[np.argsort(rank, kind="stable")[:most]])

    def steps(self, which: Mask) -> Steps:
        """Bytes over time of the chosen ones."""
        ended = which & (self.last >= 0)
        at = np.concatenate([self.first[which], self.last[ended]])
        change = np.concatenate([self.bytes[which], -self.bytes[ended]])
        order = np.argsort(at)
        return Steps.adding(at[order], change[order])


class Frames:
    """The stacks of a run, to be searched."""

    def __init__(self, stacks: pa.Table) -> None:
        frames = stacks.select(["frames"]).unify_dictionaries()["frames"].combine_chunks()
        if isinstance(frames, pa.ChunkedArray):  # of no chunk
            frames = pa.array([], frames.type)
        self._numbers = numbers(stacks, "stack")
        self._ends = np.asarray(frames.offsets)
        self._codes = np.asarray(frames.values.indices)
        self._texts: list[str] = frames.values.dictionary.to_pylist()
        self._place = {int(number): place for place, number in enumerate(self._numbers)}

    def of(self, stack: int) -> list[str]:
        """The frames of a stack, innermost first; none for 0."""
        place = self._place.get(stack)
        if place is None:
            return []
        return [self._texts[code] for code in self._codes[self._ends[place] : self._ends[place + 1]]]

    def holding(self, text: str) -> npt.NDArray[np.bool_]:
        """By number of a stack, whether one of its frames has `text` in it, whatever the case."""
        wanted = text.casefold()
        hits = np.array([wanted in one.casefold() for one in self._texts], dtype=bool)
        found = np.zeros(int(self._numbers.max(initial=0)) + 1, dtype=bool)
        if hits.any():
            sums = np.concatenate([[0], np.cumsum(hits[self._codes])])
            found[self._numbers[sums[self._ends[1:]] > sums[self._ends[:-1]]]] = True
        return found
