"""A step function over the events of a tier, and where it is highest and lowest in each column of a screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.run.columns import Ints, Mask

FEW = 500  # events a column
Places = npt.NDArray[np.int64] | npt.NDArray[np.int32]


@dataclass(frozen=True)
class Steps:
    """Bytes after some of the events of a tier: `bytes[i]` holds from event `at[i]` until event `at[i + 1]`."""

    at: Places
    bytes: Ints

    @classmethod
    def adding(cls, at: Places, change: Ints) -> Steps:
        """The sum of these changes, one after the other."""
        return cls(at, np.cumsum(change))

    @property
    def peak(self) -> int:
        """The most bytes, at least 0."""
        return max(int(self.bytes.max()), 0) if len(self.bytes) else 0

    def after(self, places: Places) -> Ints:
        """Bytes after each of these events."""
        found = self._find(places, "right") - 1
        if not len(self.bytes):
            return np.zeros(len(places), dtype=np.int64)
        return np.where(found >= 0, self.bytes[found], 0)

    def highest(self, edges: Ints) -> Ints:
        """The most bytes just after an event of each column; where a column has no event, the least there can be."""
        starts, ends = self._columns(edges)
        most = np.full(len(starts), np.iinfo(np.int64).min)
        filled = ends > starts
        if filled.any():
            most[filled] = np.maximum.reduceat(self.bytes[: ends[-1]], starts[filled])
        return most

    def peaks(self, edges: Ints, columns: Mask) -> Ints:
        """The events after which it is highest in each of the chosen columns."""
        return self._extremes(edges, columns, np.maximum, np.ndarray.argmax)

    def lows(self, edges: Ints, columns: Mask) -> Ints:
        """The events after which it is lowest in each of the chosen columns."""
        return self._extremes(edges, columns, np.minimum, np.ndarray.argmin)

    def _columns(self, edges: Ints) -> tuple[Ints, Ints]:
        bounds = self._find(edges, "left")
        return bounds[:-1], bounds[1:]

    def _find(self, places: Places, side: Literal["left", "right"]) -> Ints:
        return np.searchsorted(self.at, places.astype(self.at.dtype), side)  # of another type, all of `at` is copied

    def _extremes(self, edges: Ints, columns: Mask, reduce: np.ufunc, pick: Callable[[Ints], np.intp]) -> Ints:
        starts, ends = self._columns(edges)
        chosen = columns & (ends > starts)
        starts, ends = starts[chosen], ends[chosen]
        if not len(starts):
            return np.zeros(0, dtype=np.int64)
        is_whole = np.array_equal(starts[1:], ends[:-1])
        if is_whole and ends[-1] - starts[0] < FEW * len(starts):
            found = self._firsts(starts, ends, reduce)
        else:  # a call for each column costs less than to look at every event twice
            each = zip(starts.tolist(), ends.tolist(), strict=True)
            found = np.array([a + pick(self.bytes[a:b]) for a, b in each], dtype=np.int64)
        return self.at[found].astype(np.int64)

    def _firsts(self, starts: Ints, ends: Ints, reduce: np.ufunc) -> Ints:
        """The first place of the extreme of each column, of columns that lie side by side."""
        most = reduce.reduceat(self.bytes[: ends[-1]], starts)
        hits = np.flatnonzero(self.bytes[starts[0] : ends[-1]] == np.repeat(most, ends - starts)) + starts[0]
        return np.asarray(hits[np.searchsorted(hits, starts)], dtype=np.int64)


def together(parts: list[Steps]) -> Steps:
    """The sum of several."""
    if len(parts) == 1:
        return parts[0]
    at = np.concatenate([part.at for part in parts]) if parts else np.zeros(0, dtype=np.int64)
    change = np.concatenate([np.diff(part.bytes, prepend=0) for part in parts]) if parts else at
    order = np.argsort(at, kind="stable")  # sorted parts are merged in linear time
    return Steps.adding(at[order], change[order])
