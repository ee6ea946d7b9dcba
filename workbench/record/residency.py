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

from workbench.record.native import HOST
from workbench.record.rows import Rows

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


def held_by(pid: int, live: Rows, holders: list[Holder], threshold: str) -> dict[Holder, int]:
    """Private resident bytes of a process by holder; `holders[i]` is that of `live[i]`."""
    held: dict[Holder, int] = defaultdict(int)
    order = np.argsort(live["address"], kind="stable")
    outer = order[live["layer"][order] == HOST]
    names = [holders[i] for i in outer]
    starts, ends = _pages(live[outer])
    for area, rest in _areas(pid):
        private = _private_pages(pid, area)
        if not private.any():
            continue
        if area.is_file:
            held[os.path.basename(area.path), "file"] += int(private.sum()) * PAGE
            continue
        given = _give_pages(area, private, starts, ends, names, held)
        left = (int(private.sum()) - given) * PAGE
        if rest and left > 0:
            held[rest if rest != HEAP else (HEAP[0], threshold)] += left
    return dict(held)


HEAP: Holder = ("heap", None)
STACKS: Holder = ("thread stacks", None)


def _pages(rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and last page of each allocation, rounded to the nearest, so that neighbours never share one."""
    start = rows["address"].astype(np.int64)
    end = start + rows["bytes"].astype(np.int64)
    return (start + PAGE // 2) // PAGE, (end + PAGE // 2) // PAGE


def _give_pages(
    area: Area,
    private: npt.NDArray[np.bool_],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    names: list[Holder],
    held: dict[Holder, int],
) -> int:
    """Give the private pages of `area` to the allocations in it; returns how many were given."""
    first_page, count = area.start // PAGE, len(private)
    sums = np.concatenate([[0], np.cumsum(private)])
    given = 0
    for i in range(int(np.searchsorted(ends, first_page, "right")), int(np.searchsorted(starts, first_page + count))):
        a, b = max(int(starts[i]) - first_page, 0), min(int(ends[i]) - first_page, count)
        if a < b:
            pages = int(sums[b] - sums[a])
            held[names[i]] += pages * PAGE
            given += pages
    return given


def _private_pages(pid: int, area: Area) -> npt.NDArray[np.bool_]:
    """Which pages of an area only this process holds."""
    count = min(area.end - area.start, LARGEST_AREA) // PAGE
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        entries = os.pread(file.fileno(), count * 8, area.start // PAGE * 8)
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
