"""Which owner's pages a process really holds: the kernel's page table, read against the allocations in use.

What was handed out is not what is held: pages count when they are touched. So at a phase edge each private page of
the process is given to the allocation that it lies in, to the file that it was mapped from, to a thread's stack, or to
the heap that serves requests too small to be recorded. What is left has no name, and says so.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.recorder.native import DRIVER, HOST, PINNED, REGISTERED
from workbench.recorder.rows import Rows

PAGE = os.sysconf("SC_PAGE_SIZE")
ARENA = 64 << 20  # glibc: a heap of another thread than the first begins at a multiple of it
LARGEST_AREA = 64 << 30  # of an area that is larger only so much is looked at
PAGES_AT_ONCE = 1 << 20  # of several areas, so that their numbers take little memory
LITTLE = 256  # pages between areas, less work to read than to ask anew
READ_AT_ONCE = 1 << 15  # pages, whose entries stay in a processor's cache

EXCLUSIVE = np.uint64(1 << 56)  # of /proc/PID/pagemap: this process alone maps the page
PRESENT = np.uint64(1 << 63)
_ENTRIES = np.zeros(READ_AT_ONCE, np.uint64)  # what is read next

_MAPPING = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$", re.MULTILINE)

Holder = tuple[str, str | None]  # owner and tag
Numbers = npt.NDArray[np.int64]
NONE: Numbers = np.zeros(0, np.int64)

HEAP: Holder = ("heap", None)
STACKS: Holder = ("thread stacks", None)


class Area:
    """One mapping of a process, as /proc/PID/maps has it."""

    def __init__(self, start: int, end: int, access: str, path: str, before: Area | None) -> None:
        self.start = start
        self.end = end
        self.access = access
        self.path = path
        self.pages = min(end - start, LARGEST_AREA) // PAGE  # that are looked at
        self.is_file = path.startswith("/") and not path.startswith("/dev/zero")
        self.rest = self._holder_of_rest(before)

    def _holder_of_rest(self, before: Area | None) -> Holder | None:
        """Who holds what no allocation in it claims. `before`: the area before it."""
        if self.path == "[heap]" or (not self.path and self.start % ARENA == 0 and self.end - self.start <= ARENA):
            return HEAP
        if self.path.startswith("["):
            return STACKS if self.path == "[stack]" else (self.path, None)
        if self.path or before is None or before.end != self.start:
            return None
        if before.access.startswith("---"):
            return STACKS  # an area behind a guard page
        return (os.path.basename(before.path), "file") if before.is_file else None  # zeroed data of a library


class Part:
    """Some areas of a process, in the order of their addresses, and the pages in them that only it holds."""

    def __init__(self, areas: Sequence[Area], pagemap: int) -> None:
        self.areas = areas
        self._start = np.array([area.start // PAGE for area in areas], np.int64)
        self._end = self._start + np.array([area.pages for area in areas], np.int64)
        private = np.concatenate([_private_pages(pagemap, *span) for span in self._spans()])
        first, last = np.searchsorted(private, self._start), np.searchsorted(private, self._end)
        self.held = last - first  # of each area
        spans = zip(areas, first.tolist(), last.tolist(), strict=True)
        self._of_no_file = np.concatenate([NONE, *(private[i:j] for area, i, j in spans if not area.is_file)])

    def _spans(self) -> Iterator[tuple[int, int]]:
        """First and last page of what is read at once: areas with little between them, and of much so many pages."""
        apart = self._start[1:] > self._end[:-1] + LITTLE
        starts, ends = self._start[np.append(True, apart)], self._end[np.append(apart, True)]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            for page in range(start, end, READ_AT_ONCE):
                yield page, min(page + READ_AT_ONCE, end)

    def within(self, starts: Numbers, ends: Numbers) -> Numbers:
        """The pages between two each that are of no file."""
        return np.searchsorted(self._of_no_file, ends) - np.searchsorted(self._of_no_file, starts)

    def left(self, starts: Numbers, ends: Numbers) -> Numbers:
        """The pages of each area that are of no file and lie in no allocation; those begin and end so."""
        given = np.concatenate([[0], np.cumsum(self.within(starts, ends))])

        def given_before(page: Numbers) -> Numbers:
            begun = np.searchsorted(starts, page, "right")  # allocations; the last of them may reach beyond
            last = np.append(ends, 0)[begun - 1]
            return np.asarray(given[begun] - np.maximum(self.within(page, last), 0))

        return self.within(self._start, self._end) - (given_before(self._end) - given_before(self._start))


def _private_pages(pagemap: int, start: int, end: int) -> Numbers:
    """Which pages of some that follow each other only the process holds."""
    entries = _ENTRIES[: end - start]
    read = os.preadv(pagemap, [entries.data], start * entries.itemsize) // entries.itemsize
    wanted = PRESENT | EXCLUSIVE
    return np.flatnonzero((entries[:read] & wanted) == wanted) + start


def private_bytes(pid: int) -> int:
    """Bytes that only this process holds, as the kernel counts them."""
    with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        text = file.read()
    return 1024 * sum(int(kib) for kib in re.findall(rb"^Private_(?:Clean|Dirty):\s+(\d+)", text, re.MULTILINE))


@dataclass
class Held:
    """Private resident bytes of a process by owner and tag: by their numbers where an event told them, else by name."""

    numbered: dict[tuple[int, int], int]
    named: dict[Holder, int]
    registered: int  # bytes that are the kernel's to count here, and pinned in a run


def held_by(pid: int, live: Rows, below: str) -> Held:
    """Who holds the private pages of a process. `below` is the tag of the heap that serves what is not recorded."""
    rows = live[(live["layer"] == HOST) | _is_registered(live)]
    rows = rows[np.argsort(rows["address"], kind="stable")]
    starts, ends = _pages(rows)
    pages = np.zeros(len(rows), np.int64)
    named: dict[Holder, int] = defaultdict(int)
    for part in _parts(pid):
        pages += part.within(starts, ends)
        left = part.left(starts, ends)
        for place in np.flatnonzero(part.held):
            area = part.areas[place]
            if area.is_file:
                named[os.path.basename(area.path), "file"] += int(part.held[place]) * PAGE
            elif area.rest and left[place]:
                named[area.rest if area.rest != HEAP else (HEAP[0], below)] += int(left[place]) * PAGE
    locked = _is_registered(rows)
    return Held(_by_holder(rows[~locked], pages[~locked]), dict(named), int(pages[locked].sum()) * PAGE)


def unclaimed(pid: int) -> list[tuple[int, int]]:
    """First and last address of the private memory of a process that nothing but an allocation could explain."""
    held = (part.areas[place] for part in _parts(pid) for place in np.flatnonzero(part.held))
    return [(area.start, area.end) for area in held if area.rest is None and not area.is_file]


def _is_registered(rows: Rows) -> npt.NDArray[np.bool_]:
    return np.asarray((rows["layer"] == DRIVER) & (rows["tier"] == PINNED) & (rows["flags"] & REGISTERED != 0))


def _by_holder(rows: Rows, pages: Numbers) -> dict[tuple[int, int], int]:
    keys = rows["owner"].astype(np.uint64) << np.uint64(32) | rows["tag"].astype(np.uint64)
    found, place = np.unique(keys, return_inverse=True)
    sums = np.bincount(place, weights=pages, minlength=len(found)).astype(np.int64) * PAGE
    return {(int(key) >> 32, int(key) & 0xFFFFFFFF): int(size) for key, size in zip(found, sums, strict=True) if size}


def _pages(rows: Rows) -> tuple[Numbers, Numbers]:
    """First and last page of each allocation, rounded to the nearest, so that neighbours never share one.

    Where one lies in another, as memory that was made usable within reserved addresses, the inner one has its pages.
    """
    start = rows["address"].astype(np.int64)
    end = start + rows["bytes"].astype(np.int64)
    first, last = (start + PAGE // 2) // PAGE, (end + PAGE // 2) // PAGE
    return first, np.minimum(last, np.append(first[1:], np.iinfo(np.int64).max))


def _parts(pid: int) -> Iterator[Part]:
    """The areas of a process, so many at a time."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        areas: list[Area] = []
        pages = 0
        for area in _areas(pid):
            areas.append(area)
            pages += area.pages
            if pages >= PAGES_AT_ONCE:
                yield Part(areas, pagemap.fileno())
                areas, pages = [], 0
        if areas:
            yield Part(areas, pagemap.fileno())


def _areas(pid: int) -> Iterator[Area]:
    """The areas that can hold pages."""
    before: Area | None = None
    with open(f"/proc/{pid}/maps", "rb") as file:
        mappings = _MAPPING.findall(file.read())
    for start, end, access, path in mappings:
        area = Area(int(start, 16), int(end, 16), access.decode(), path.decode(errors="replace"), before)
        if area.access[0] == "r" or area.access[1] == "w":
            yield area
        before = area
