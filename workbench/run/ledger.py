"""Every byte in use at one moment, by owner and tag, held to what the driver or the kernel says is used."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.run.columns import Ints, Mask, arrow, codes, equals, numbers
from workbench.run.columns import values as column_values
from workbench.run.timeline import OUTER_LAYER, counted, signed_bytes

COLUMNS = ("time_ns", "kind", "layer", "tier", "owner", "tag", "bytes", "address", "process")
"""Of the events, what a ledger needs."""

UNUSED = "unused"  # the tag of memory that an allocator holds and has given to nobody
TRUTH = {"gpu": "used", "pinned": "used", "pageable": "private"}
"""The name under which `totals` has the truth of a tier; nobody can tell that of the pinned tier."""

Sums = dict[tuple[str, str | None], int]


@dataclass(frozen=True)
class Entry:
    """The bytes of one owner with one tag."""

    owner: str
    tag: str | None
    bytes: int


@dataclass(frozen=True)
class Ledger:
    """What is in use in one tier at one moment. `used` is the truth, None where nobody can tell it.

    `error` bounds how far it may be off: on the pageable tier the entries are measured at phase edges, what was handed
    out or taken back since is known only by its size, not by the pages that were touched, and `used` is sampled.
    """

    tier: str
    time_ns: int
    used: int | None
    entries: tuple[Entry, ...]
    error: int = 0

    @classmethod
    def of(cls, tier: str, time_ns: int, used: int | None, sums: Sums, error: int = 0) -> Ledger:
        """The ledger of these sums by owner and tag, the largest first."""
        ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0][0], item[0][1] or ""))
        entries = tuple(Entry(owner, tag, held) for (owner, tag), held in ordered if held)
        return cls(tier, time_ns, used, entries, error)

    @property
    def explained(self) -> int:
        """Bytes that have an owner's name."""
        return sum(entry.bytes for entry in self.entries)

    @property
    def unexplained(self) -> int | None:
        """Bytes in use that no event and no measurement explains."""
        return None if self.used is None else self.used - self.explained

    def by_owner(self) -> dict[str, int]:
        """Bytes by owner, the largest first."""
        sums: dict[str, int] = defaultdict(int)
        for entry in self.entries:
            sums[entry.owner] += entry.bytes
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def ledger_at(events: pa.Table, totals: pa.Table, tier: str, time_ns: int) -> Ledger:
    """The ledger of `tier` just after what happened at `time_ns`."""
    if tier == "pageable":
        return _measured(events, totals, time_ns)
    return Ledger.of(tier, time_ns, truth(totals, tier, time_ns), alive_by_owner(events, tier, time_ns))


def truth(totals: pa.Table, tier: str, time_ns: int) -> int | None:
    """Bytes in use as the driver (gpu) or the kernel (pageable) had them last, over all devices or processes."""
    rows = equals(totals, "tier", tier) & equals(totals, "name", TRUTH[tier])
    times = numbers(totals, "time_ns")
    rows &= times <= time_ns
    if not rows.any():
        return None
    if tier == "pageable":  # one reading of all processes that lived then
        return int(numbers(totals, "bytes")[rows & (times == times[rows].max())].sum())
    last = dict(zip(numbers(totals, "device")[rows], numbers(totals, "bytes")[rows], strict=True))
    return int(sum(last.values()))


def readings(totals: pa.Table, tier: str) -> Ints:
    """The moments at which the truth of a tier was read."""
    rows = equals(totals, "tier", tier) & equals(totals, "name", TRUTH[tier])
    return np.unique(numbers(totals, "time_ns")[rows])


def _measured(events: pa.Table, totals: pa.Table, time_ns: int) -> Ledger:
    """The pageable ledger: who held the pages at the last reading, what was handed out and given back since, and how
    far that may be off.

    Pages that are more than at the reading are taken for those of the memory that is new. What was handed out and given
    back is in the error all the same, and so are the pages that were touched, until the next sample of how many there
    are. Where there is none, the process has ended or is yet to be looked at: all may be gone.
    """
    at_edge = truth(totals, "pageable", time_ns)
    if at_edge is None:
        return Ledger.of("pageable", time_ns, None, alive_by_owner(events, "pageable", time_ns))
    moments = readings(totals, "pageable")
    edge = int(moments[moments <= time_ns].max())
    rows = np.flatnonzero(equals(totals, "name", "held") & (numbers(totals, "time_ns") == edge))
    at, now = _resident(totals, time_ns)
    upto, later = (time_ns, now) if at == time_ns else _resident(totals, time_ns, after=True)
    then = _resident(totals, edge)[1]
    times = numbers(events, "time_ns")
    since = counted(events, "pageable") & (times > edge)
    error = _moved(then, now) + _moved(now, later) + int(numbers(events, "bytes")[since & (times <= upto)].sum())
    since &= times <= time_ns
    rows_since, new = np.flatnonzero(since), _alive(events, since)
    net = _sums(events, rows_since, signed_bytes(events)[rows_since])
    held = _sums(totals, rows, numbers(totals, "bytes")[rows])
    used = at_edge + sum(now.values()) - sum(then.values())
    explained = used - (at_edge - sum(held.values()))  # no more than at the reading is left unexplained
    sums = _carried_on(held, net, _sums(events, new, numbers(events, "bytes")[new]), explained)
    return Ledger.of("pageable", time_ns, used, sums, error)


def _carried_on(held: Sums, net: Sums, new: Sums, explained: int) -> Sums:
    """Who holds the pages after `net` was handed out, of which `new` is still in use, and the rest was given back.

    What was given back had as many pages as its owner held; what is new has as many as are not the others'.
    """
    old = {key: max(0, size + net.get(key, 0) - new.get(key, 0)) for key, size in held.items()}
    whole = sum(new.values())
    part = min(1.0, max(0, explained - sum(old.values())) / whole) if whole else 0.0
    return {key: old.get(key, 0) + int(new.get(key, 0) * part) for key in old | new}


def _resident(totals: pa.Table, time_ns: int, after: bool = False) -> tuple[int, dict[int, int]]:
    """When and how many bytes of each process were in memory: the last sample up to a moment, or the first after it."""
    times = numbers(totals, "time_ns")
    rows = np.flatnonzero(equals(totals, "name", "resident") & ((times > time_ns) if after else (times <= time_ns)))
    if not len(rows):
        return time_ns, {}
    at = times[rows[0 if after else -1]]
    sample = rows[times[rows] == at]  # a process may have been read twice at one moment
    processes, sizes = numbers(totals, "process")[sample].tolist(), numbers(totals, "bytes")[sample].tolist()
    return int(at), dict(zip(processes, sizes, strict=True))


def _moved(before: dict[int, int], after: dict[int, int]) -> int:
    """By how much all processes together changed, whichever way each of them did."""
    return sum(abs(after.get(process, 0) - before.get(process, 0)) for process in before | after)


def alive_by_owner(events: pa.Table, tier: str, time_ns: int) -> Sums:
    """Bytes in use by owner and tag: blocks by what they are for, and what their allocator holds beyond them."""
    alive = _alive(events, equals(events, "tier", tier) & (numbers(events, "time_ns") <= time_ns))
    is_outer = equals(events, "layer", OUTER_LAYER[tier])[alive]
    outer, blocks = alive[is_outer], alive[~is_outer]
    sizes = numbers(events, "bytes")
    if not len(outer):
        return _sums(events, blocks, sizes[blocks])
    home = _containers(events, outer, blocks)
    inside = home >= 0
    filled = np.bincount(home[inside], weights=sizes[blocks[inside]], minlength=len(outer)).astype(np.int64)
    sums = _sums(events, blocks[inside], sizes[blocks[inside]])
    owners, texts = codes(events, "owner")
    is_cut = np.isin(owners[outer], owners[outer[filled > 0]])  # what their owner asks for is cut into blocks
    for key, held in _sums(events, outer[~is_cut], sizes[outer[~is_cut]]).items():
        sums[key] = sums.get(key, 0) + held
    if is_cut.any():
        allocator = texts[owners[blocks[inside][0]]] or ""
        sums[allocator, UNUSED] = int((sizes[outer] - filled)[is_cut].sum())
    return sums


def _alive(events: pa.Table, rows: Mask) -> Ints:
    """The allocations among `rows` that no later row of them frees."""
    chosen = np.flatnonzero(rows)
    places = _numbered(numbers(events, "address")[chosen])
    for part in (codes(events, "layer")[0], numbers(events, "process")):
        ours = _numbered(part[chosen])
        if ours.any():  # else there is only one
            places = _numbered(places.astype(np.int64) * (int(ours.max()) + 1) + ours)
    last = np.empty(int(places.max(initial=-1)) + 1, dtype=np.int64)
    last[places] = chosen  # of rows of one place the last one stays
    ends = np.sort(last)
    allocated: npt.NDArray[np.int64] = ends[equals(events, "kind", "alloc")[ends]]
    return allocated


def _numbered(values: npt.NDArray[Any]) -> Ints:
    """Numbers from 0 on for the values that there are: found by hashing, for sorting takes longer."""
    return column_values(arrow(values).dictionary_encode().indices)


def _containers(events: pa.Table, outer: Ints, blocks: Ints) -> Ints:
    """For each block the place in `outer` of the allocation that it lies in, -1 where there is none."""
    process, address, sizes = (numbers(events, column) for column in ("process", "address", "bytes"))
    homes = np.full(len(blocks), -1, dtype=np.int64)
    for one in np.unique(process[blocks]):
        places = np.flatnonzero(process[outer] == one)
        mine = np.flatnonzero(process[blocks] == one)
        if not len(places):
            continue
        places = places[np.argsort(address[outer[places]], kind="stable")]
        starts = address[outer[places]]
        near = np.searchsorted(starts, address[blocks[mine]], side="right") - 1
        found = near >= 0
        found &= address[blocks[mine]] < starts[near] + sizes[outer[places]][near].astype(starts.dtype)
        homes[mine[found]] = places[near[found]]
    return homes


def _sums(table: pa.Table, rows: Ints, sizes: Ints) -> Sums:
    """`sizes`, one a row, added up by owner and tag."""
    owners, owner_texts = codes(table, "owner")
    tags, tag_texts = codes(table, "tag")
    keys = owners[rows] * len(tag_texts) + tags[rows]
    found, place = np.unique(keys, return_inverse=True)
    totals = np.bincount(place, weights=sizes, minlength=len(found)).astype(np.int64)
    return {
        (owner_texts[key // len(tag_texts)] or "", tag_texts[key % len(tag_texts)]): int(total)
        for key, total in zip(found.tolist(), totals, strict=True)
    }
