"""A step function over the events of a tier, and where it is highest and lowest in each column of a screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.run.columns import Ints, Mask

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
        return self._extremes(edges, columns, np.argmax)

    def lows(self, edges: Ints, columns: Mask) -> Ints:
        """The events after which it is lowest in each of the chosen columns."""
        return self._extremes(edges, columns, np.argmin)

    def _columns(self, edges: Ints) -> tuple[Ints, Ints]:
        bounds = self._find(edges, "left")
        return bounds[:-1], bounds[1:]

    def _find(self, places: Places, side: Literal["left", "right"]) -> Ints:
        return np.searchsorted(self.at, places.astype(self.at.dtype), side)  # of another type, all of `at` is copied

    def _extremes(self, edges: Ints, columns: Mask, pick: object) -> Ints:
        starts, ends = self._columns(edges)
        chosen = columns & (ends > starts)
        found = [a + pick(self.bytes[a:b]) for a, b in zip(starts[chosen].tolist(), ends[chosen].tolist(), strict=True)]  # type: ignore[operator]
        return np.asarray(self.at[np.asarray(found, dtype=np.int64)], dtype=np.int64)


def together(parts: list[Steps]) -> Steps:
    """The sum of several."""
    if len(parts) == 1:
        return parts[0]
    at = np.concatenate([part.at for part in parts]) if parts else np.zeros(0, dtype=np.int64)
    change = np.concatenate([np.diff(part.bytes, prepend=0) for part in parts]) if parts else at
    order = np.argsort(at, kind="stable")  # sorted parts are merged in linear time
    return Steps.adding(at[order], change[order])
