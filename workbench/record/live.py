"""The allocations of one process that are in use: pairs each free with its allocation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workbench.record.native import ALLOC, FREE, HOST, RANGE
from workbench.record.registered import Registered
from workbench.record.rows import ROW, Rows, none

OF_THE_ALLOCATION = ("bytes", "asked", "owner", "tag", "stack", "tier", "device", "stream")
"""What a free does not know by itself and takes from its allocation."""


class Live:
    """What a process has in use, by layer and address; fed with its events in the order of time."""

    def __init__(self) -> None:
        self.rows: Rows = none()
        self.unknown_frees = 0  # of memory that was handed out before the recording began
        self._registered = Registered()

    def apply(self, batch: Rows) -> Rows:
        """Take the next events; returns them as they go into the run.

        Memory of the host's that is registered counts as pinned from then on: see `Registered`.
        """
        written = []
        while (place := self._registered.first_concerned(batch)) is not None:
            written.append(self._apply(batch[:place]))
            written.append(self._apply(self._registered.expand(batch[place], self.rows)))
            batch = batch[place + 1 :]
        written.append(self._apply(batch))
        return np.concatenate(written) if len(written) > 1 else written[0]

    def _apply(self, batch: Rows) -> Rows:
        """Pair the next frees.

        A free without a known allocation is left out. An allocation over one in use means that its free was not seen
        (it was unmapped behind the library's back): the free is put before it. A part of a mapping that is given back
        becomes a free of the whole and an allocation of what stays.
        """
        if not len(batch):
            return batch
        both = np.concatenate([self.rows, batch])
        order, follows_alloc = _pairs(both)
        if _has_parts(both, order, follows_alloc):
            batch = whole_frees(self.rows, batch)
            both = np.concatenate([self.rows, batch])
            order, follows_alloc = _pairs(both)
        is_free = both["kind"][order] == FREE
        matched = np.flatnonzero(is_free & follows_alloc)
        frees, allocations = both[order[matched]], both[order[matched - 1]]
        for field in OF_THE_ALLOCATION:
            frees[field] = allocations[field]
        both[order[matched]] = frees
        unknown = order[is_free & ~follows_alloc]
        self.unknown_frees += int((both["flags"][unknown] & RANGE == 0).sum())
        written = _with_unseen_frees(both, order, np.flatnonzero(~is_free & follows_alloc), len(self.rows), unknown)
        ends = order[_lasts(_keys(both)[order])]
        self.rows = both[np.sort(ends[both["kind"][ends] == ALLOC])]
        return written


def _keys(rows: Rows) -> npt.NDArray[np.uint64]:
    return np.asarray(rows["address"] | (rows["layer"].astype(np.uint64) << np.uint64(60)))


def _lasts(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of the sorted `keys` is the last of its kind."""
    last = np.ones(len(keys), dtype=bool)
    last[:-1] = keys[1:] != keys[:-1]
    return last


def _pairs(rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """`rows` by layer and address, in time within each; and whether the row before in that order allocates the same."""
    keys = _keys(rows)
    order = np.argsort(keys, kind="stable")
    follows = np.zeros(len(rows), dtype=bool)
    if len(rows):
        same = keys[order][1:] == keys[order][:-1]
        follows[1:] = same & (rows["kind"][order][:-1] == ALLOC)
    return order, follows


def _has_parts(rows: Rows, order: npt.NDArray[np.int64], follows_alloc: npt.NDArray[np.bool_]) -> bool:
    """Whether something was unmapped that is not exactly one mapping: a part of one, or several."""
    unmapped = np.flatnonzero((rows["kind"][order] == FREE) & (rows["flags"][order] & RANGE != 0))
    matched = unmapped[follows_alloc[unmapped]]
    if (rows["bytes"][order[matched]] != rows["bytes"][order[matched - 1]]).any():
        return True
    return _overlaps(rows, order[unmapped[~follows_alloc[unmapped]]])


def _overlaps(rows: Rows, places: npt.NDArray[np.int64]) -> bool:
    """Whether one of these frees touches memory that some allocation of the host took."""
    taken = rows[(rows["kind"] == ALLOC) & (rows["layer"] == HOST)]
    if not len(taken) or not len(places):
        return False
    taken = taken[np.argsort(taken["address"], kind="stable")]
    ends = rows["address"][places] + rows["bytes"][places]
    before = np.searchsorted(taken["address"], ends) - 1
    reach = taken["address"][before] + taken["bytes"][before]
    return bool(((before >= 0) & (reach > rows["address"][places])).any())


def _with_unseen_frees(
    both: Rows,
    order: npt.NDArray[np.int64],
    over: npt.NDArray[np.int64],
    known: int,
    unknown: npt.NDArray[np.int64],
) -> Rows:
    """The new rows of `both`, less the unknown frees, with a free before each allocation over one in use."""
    keep = np.ones(len(both), dtype=bool)
    keep[:known] = False
    keep[unknown] = False
    if not len(over):
        return both[keep]
    frees = both[order[over - 1]]
    frees["kind"] = FREE
    frees["time_ns"] = both["time_ns"][order[over]]
    places = np.cumsum(keep)[order[over]] - 1
    return np.insert(both[keep], places, frees)


def whole_frees(rows: Rows, batch: Rows) -> Rows:
    """`batch` with every unmapping of a part, or of several mappings at once, as frees of wholes and rests kept."""
    live = {int(row["address"]): row.copy() for row in rows if row["layer"] == HOST}
    out: list[np.void] = []
    for row in batch:
        start = int(row["address"])
        if row["layer"] != HOST:
            out.append(row)
        elif row["kind"] == ALLOC:
            live[start] = row.copy()
            out.append(row)
        elif start in live and live[start]["bytes"] == row["bytes"]:
            del live[start]
            out.append(row)
        else:
            out.extend(_give_back(live, row))
    return np.array(out, ROW)


def _give_back(live: dict[int, np.void], free: np.void) -> list[np.void]:
    start, end = int(free["address"]), int(free["address"]) + int(free["bytes"])
    out: list[np.void] = []
    for first in [a for a, row in live.items() if a < end and a + int(row["bytes"]) > start]:
        row = live.pop(first)
        last = first + int(row["bytes"])
        out.append(_copy(row, free, FREE, first, last))
        for a, b in ((first, min(start, last)), (max(end, first), last)):
            if a < b:
                live[a] = _copy(row, free, ALLOC, a, b)
                out.append(live[a].copy())
    return out or [free]


def _copy(row: np.void, at: np.void, kind: int, start: int, end: int) -> np.void:
    made = row.copy()
    made["kind"], made["time_ns"], made["address"] = kind, at["time_ns"], start
    made["bytes"] = end - start
    if kind == ALLOC:
        made["asked"] = end - start
    return made
