"""Which owner's pages a process really holds: the kernel's page table, read against the allocations in use.

What was handed out is not what is held: pages count when they are touched. So at a phase edge each private page of
the process is given to the allocation that it lies in, to the file that it was mapped from, to a thread's stack, or to
the heap that serves requests too small to be recorded. What is left has no name, and says so.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.recorder.native import DRIVER, HOST, PINNED, REGISTERED
from workbench.recorder.rows import Rows

PAGE = os.sysconf("SC_PAGE_SIZE")
ARENA = 64 << 20  # glibc: a heap of another thread than the first begins at a multiple of it
LARGEST_AREA = 64 << 30  # of an area that is larger only so much is looked at

EXCLUSIVE = np.uint64(1 << 56)  # of /proc/PID/pagemap: this process alone maps the page
PRESENT = np.uint64(1 << 63)

Holder = tuple[str, str | None]  # owner and tag


@dataclass(frozen=True)
class Area:
    """One mapping of a process, as /proc/PID/maps has it."""

    start: int
    end: int
    access: str
    path: str

    @property
    def is_file(self) -> bool:
        return self.path.startswith("/") and not self.path.startswith("/dev/zero")


def private_bytes(pid: int) -> int:
    """Bytes that only this process holds, as the kernel counts them."""
    with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        text = file.read()
    return 1024 * sum(int(kib) for kib in re.findall(rb"^Private_(?:Clean|Dirty):\s+(\d+)", text, re.MULTILINE))


@dataclass
class Held:
    """Private resident bytes of a process by owner and tag: by their numbers where an event told them, else by name."""

    numbered: dict[tuple[int, int], int]
    named: dict[tuple[str, str | None], int]
    registered: int  # bytes that are the kernel's to count here, and pinned in a run


def held_by(pid: int, live: Rows, below: str) -> Held:
    """Who holds the private pages of a process. `below` is the tag of the heap that serves what is not recorded."""
    rows = live[(live["layer"] == HOST) | _is_registered(live)]
    rows = rows[np.argsort(rows["address"], kind="stable")]
    starts, ends = _pages(rows)
    pages = np.zeros(len(rows), np.int64)
    named: dict[tuple[str, str | None], int] = defaultdict(int)
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for area, rest in _areas(pid):
            private = _private_pages(pagemap.fileno(), area)
            total = int(np.count_nonzero(private))
            if area.is_file:
                named[os.path.basename(area.path), "file"] += total * PAGE
            elif total:
                left = total - _give_pages(area, private, starts, ends, pages)
                if rest and left > 0:
                    named[rest if rest != HEAP else (HEAP[0], below)] += left * PAGE
    locked = _is_registered(rows)
    return Held(
        _by_holder(rows[~locked], pages[~locked]),
        {holder: size for holder, size in named.items() if size},
        int(pages[locked].sum()) * PAGE,
    )


def unclaimed(pid: int) -> list[tuple[int, int]]:
    """First and last address of the private memory of a process that nothing but an allocation could explain."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        return [
            (area.start, area.end)
            for area, rest in _areas(pid)
            if rest is None and not area.is_file and _private_pages(pagemap.fileno(), area).any()
        ]


def _is_registered(rows: Rows) -> npt.NDArray[np.bool_]:
    return np.asarray((rows["layer"] == DRIVER) & (rows["tier"] == PINNED) & (rows["flags"] & REGISTERED != 0))


def _by_holder(rows: Rows, pages: npt.NDArray[np.int64]) -> dict[tuple[int, int], int]:
    keys = rows["owner"].astype(np.uint64) << np.uint64(32) | rows["tag"].astype(np.uint64)
    found, place = np.unique(keys, return_inverse=True)
    sums = np.bincount(place, weights=pages, minlength=len(found)).astype(np.int64) * PAGE
    return {(int(key) >> 32, int(key) & 0xFFFFFFFF): int(size) for key, size in zip(found, sums, strict=True) if size}


HEAP: Holder = ("heap", None)
STACKS: Holder = ("thread stacks", None)


def _pages(rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and last page of each allocation, rounded to the nearest, so that neighbours never share one.

    Where one lies in another, as memory that was made usable within reserved addresses, the inner one has its pages.
    """
    start = rows["address"].astype(np.int64)
    end = start + rows["bytes"].astype(np.int64)
    first, last = (start + PAGE // 2) // PAGE, (end + PAGE // 2) // PAGE
    return first, np.minimum(last, np.append(first[1:], np.iinfo(np.int64).max))


def _give_pages(
    area: Area,
    private: npt.NDArray[np.bool_],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    pages: npt.NDArray[np.int64],
) -> int:
    """Add the private pages of `area` to those of the allocations in it; returns how many were given."""
    first_page, count = area.start // PAGE, len(private)
    low, high = np.searchsorted(ends, first_page, "right"), np.searchsorted(starts, first_page + count)
    if low >= high:
        return 0
    sums = np.concatenate([[0], np.cumsum(private)])
    a = np.clip(starts[low:high] - first_page, 0, count)
    b = np.clip(ends[low:high] - first_page, 0, count)
    given = np.maximum(sums[b] - sums[a], 0)
    pages[low:high] += given
    return int(given.sum())


def _private_pages(pagemap: int, area: Area) -> npt.NDArray[np.bool_]:
    """Which pages of an area only this process holds."""
    count = min(area.end - area.start, LARGEST_AREA) // PAGE
    entries = os.pread(pagemap, count * 8, area.start // PAGE * 8)
    flags = np.frombuffer(entries[: len(entries) // 8 * 8], np.uint64)
    wanted = PRESENT | EXCLUSIVE
    return np.asarray((flags & wanted) == wanted)


def _areas(pid: int) -> Iterator[tuple[Area, Holder | None]]:
    """The areas that can hold pages, each with the holder of what no allocation in it claims."""
    before: Area | None = None
    for area in _maps(pid):
        if area.access[0] == "r" or area.access[1] == "w":
            yield area, _holder_of_rest(area, before)
        before = area


def _holder_of_rest(area: Area, before: Area | None) -> Holder | None:
    if area.path == "[heap]" or (not area.path and area.start % ARENA == 0 and area.end - area.start <= ARENA):
        return HEAP
    if area.path.startswith("["):
        return STACKS if area.path == "[stack]" else (area.path, None)
    if area.path or before is None or before.end != area.start:
        return None
    if before.access.startswith("---"):
        return STACKS  # an area behind a guard page
    return (os.path.basename(before.path), "file") if before.is_file else None  # zeroed data of a library


def _maps(pid: int) -> Iterator[Area]:
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            span, access, _, _, _, *path = line.rstrip("\n").split(maxsplit=5)
            start, end = span.split("-")
            yield Area(int(start, 16), int(end, 16), access, path[0] if path else "")
