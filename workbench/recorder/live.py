"""The allocations of one process that are in use: pairs each free with its allocation, in kernels/live.c."""

from __future__ import annotations

import ctypes
import weakref

import numpy as np

from workbench.recorder.native import ALLOC, FREE, HOST, RANGE, library
from workbench.recorder.registered import Registered
from workbench.recorder.rows import ROW, Rows


class _Out(ctypes.Structure):
    """As struct wb_live_out."""

    _fields_ = (("rows", ctypes.c_void_p), ("count", ctypes.c_uint64), ("unknown_frees", ctypes.c_uint64))


class Live:
    """What a process has in use, by layer and address; fed with its events in the order of time."""

    def __init__(self) -> None:
        self.unknown_frees = 0  # of memory that was handed out before the recording began
        self._registered = Registered()
        self._library = library()
        self._native = self._library.wb_live_new()
        if not self._native:
            raise MemoryError("no memory to keep what a process has in use")
        weakref.finalize(self, self._library.wb_live_delete, self._native)

    @property
    def rows(self) -> Rows:
        """Every allocation in use, in no order."""
        rows = np.empty(self._library.wb_live_rows(self._native, None), ROW)
        self._library.wb_live_rows(self._native, rows.ctypes.data)
        return rows

    def apply(self, batch: Rows) -> Rows:
        """Take the next events; returns them as they go into the run.

        A free without a known allocation is left out. An allocation over one in use means that its free was not seen
        (it was unmapped behind the library's back): the free is put before it. A part of a mapping that is given back
        becomes a free of the whole and an allocation of what stays. Memory of the host's that is registered counts as
        pinned from then on: see `Registered`.
        """
        written = []
        while (place := self._registered.first_concerned(batch)) is not None:
            written.append(self._pair(batch[:place]))
            written.append(self._pair(self._registered.expand(batch[place], self.rows)))
            batch = batch[place + 1 :]
        written.append(self._pair(batch))
        return np.concatenate(written) if len(written) > 1 else written[0]

    def _pair(self, batch: Rows) -> Rows:
        written = []
        while True:
            taken, rows = self._take(batch)
            written.append(rows)
            if taken == len(batch):
                return np.concatenate(written) if len(written) > 1 else rows
            written.append(self._take(_whole_frees(self.rows, batch[taken]))[1])
            batch = batch[taken + 1 :]

    def _take(self, batch: Rows) -> tuple[int, Rows]:
        """How many events were taken, up to one that gives back parts of mappings, and what they become."""
        events = np.ascontiguousarray(batch, ROW)  # numpy packs what it concatenates
        rows = np.empty(2 * len(events), ROW)
        out = _Out(rows.ctypes.data)
        taken = self._library.wb_live_apply(self._native, events.ctypes.data, len(events), ctypes.byref(out))
        if taken < len(events) and not (events[taken]["kind"] == FREE and events[taken]["flags"] & RANGE):
            raise MemoryError("no memory to keep what a process has in use")
        self.unknown_frees += out.unknown_frees
        return taken, rows[: out.count]


def _whole_frees(live: Rows, free: np.void) -> Rows:
    """What giving back a range does to the mappings it touches: frees of wholes, and allocations of what stays."""
    start, end = int(free["address"]), int(free["address"]) + int(free["bytes"])
    reach = live["address"] + live["bytes"]
    touched = live[(live["layer"] == HOST) & (live["address"] < end) & (reach > start)]
    out: list[np.void] = []
    for row in touched[np.argsort(touched["address"])]:
        first, last = int(row["address"]), int(row["address"]) + int(row["bytes"])
        out.append(_copy(row, free, FREE, first, last))
        rests = ((first, min(start, last)), (max(end, first), last))
        out.extend(_copy(row, free, ALLOC, a, b) for a, b in rests if a < b)
    return np.array(out, ROW)


def _copy(row: np.void, at: np.void, kind: int, start: int, end: int) -> np.void:
    made = row.copy()
    made["kind"], made["time_ns"], made["address"] = kind, at["time_ns"], start
    made["bytes"] = end - start
    if kind == ALLOC:
        made["asked"] = end - start
    return made
