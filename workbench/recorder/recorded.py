"""One recorded process, as the scribe sees it: its ring, its names, and what it has in use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from workbench.recorder.departures import is_alive
from workbench.recorder.frames import Frames
from workbench.recorder.live import Live
from workbench.recorder.native import ALLOC, FRAME, FREE, HOST, MOVED, NAME, RANGE, RESERVED, STACK
from workbench.recorder.native import Names as Definitions
from workbench.recorder.numbers import number_here
from workbench.recorder.rings import Ring
from workbench.recorder.rows import Rows, none, renamed
from workbench.run.streams import Names

DRAIN = 1 << 16  # records taken from a ring at a time
FULL_ENOUGH = 0.25


class Stacks:
    """Numbers for Python stacks, the same for all processes of a run; new ones wait to be written."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.frames = Frames()
        self._numbers: dict[tuple[int, ...], int] = {}
        self.new: list[dict[str, object]] = []

    def number(self, frames: list[str]) -> int:
        """The number of a stack, given at its first use."""
        key = tuple(self._names.id(frame) for frame in frames)
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self._numbers) + 1
            self.new.append({"stack": known, "frames": list(key)})
        return known


class Recorded:
    """A process whose ring is drained: gives its records with the run's names in place of the process's own."""

    def __init__(self, ring: Path, names: Names, stacks: Stacks) -> None:
        self._ring = Ring(ring)
        self._definitions = Definitions(ring.with_suffix(".names"))
        self._names = names
        self._stacks = stacks
        self._frames: dict[int, str] = {}
        self._name_ids = np.zeros(1, np.uint32)  # by the process's own id
        self._stack_ids = np.zeros(1, np.uint32)
        self.live = Live()
        self.reserved = Live()  # addresses without memory, until the program makes pages of them usable
        self.pid = number_here(self._ring.pid, self._ring.pid_namespace)
        self.threshold = self._ring.threshold
        self.did_ns = 0  # the last thing

    def reserve(self, rows: Rows) -> None:
        """Keep track of reserved addresses: what the program puts there later is held, though no event tells of it."""
        ranges = (rows["kind"] == FREE) & (rows["flags"] & RANGE != 0)
        concerned = rows[only_addresses(rows) | ranges]
        if len(concerned):
            self.reserved.apply(concerned)

    @property
    def lost(self) -> int:
        """Events that the process dropped because the ring was full."""
        return self._ring.lost

    @property
    def is_filling(self) -> bool:
        """Whether the ring should be drained before its time."""
        return self._ring.filled > FULL_ENOUGH

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return is_alive(self.pid)

    def drain(self, last: bool = False) -> Rows:
        """Every record since the last call, in the order of time; `last` steps over those that will never be whole."""
        parts = []
        while len(part := self._ring.drain(DRAIN, skip=last)):
            parts.append(part)
            if len(part) < DRAIN and not last:
                break  # what came meanwhile is for the next time
        if not parts:
            return none()
        self._define()
        records = parts[0] if len(parts) == 1 else np.concatenate(parts)
        rows = renamed(records, self._name_ids, self._stack_ids)
        times = rows["time_ns"].copy()
        self.did_ns = max(self.did_ns, int(times.max()))
        if (times[1:] < times[:-1]).any():
            rows = rows[np.argsort(times, kind="stable")]
        if is_moved(rows).any():
            keep_kinds(rows, np.concatenate([self.reserved.rows, self.live.rows]))
        return rows

    def _define(self) -> None:
        """Learn what was defined since: names come before what refers to them."""
        new = self._definitions.read_new()
        for definition in new:
            if definition.kind == NAME:
                self._name_ids = _put(self._name_ids, definition.id, self._names.id(definition.text))
            elif definition.kind == FRAME:
                self._frames[definition.id] = self._stacks.frames.text(*definition.text.split("\0"))
            elif definition.kind == STACK:
                frames = [self._frames[number] for number in definition.numbers]
                self._stack_ids = _put(self._stack_ids, definition.id, self._stacks.number(frames))

    def close(self) -> None:
        """Let go of the ring and delete its files."""
        self._ring.close()


def only_addresses(rows: Rows) -> npt.NDArray[np.bool_]:
    """Mappings that reserve addresses and hold no memory."""
    return np.asarray((rows["kind"] == ALLOC) & (rows["layer"] == HOST) & (rows["flags"] & RESERVED != 0))


def is_moved(rows: Rows) -> npt.NDArray[np.bool_]:
    """Allocations of memory that mremap moved: the free just before on the thread gave it back."""
    return np.asarray((rows["kind"] == ALLOC) & (rows["layer"] == HOST) & (rows["flags"] & MOVED != 0))


def keep_kinds(rows: Rows, before: Rows) -> None:
    """Give what was moved the flags and the tag of what it was; `before`: what was in use before the rows."""
    for place in np.flatnonzero(is_moved(rows)):
        mine = np.flatnonzero(rows["thread"][:place] == rows[place]["thread"])
        free = rows[mine[-1]] if len(mine) else None
        if free is None or free["kind"] != FREE or not free["flags"] & RANGE:
            continue  # what was recorded in between was lost
        known = np.concatenate([before, rows[: mine[-1]]])
        known = known[(known["kind"] == ALLOC) & (known["layer"] == HOST)]
        there = known[(known["address"] <= free["address"]) & (free["address"] < known["address"] + known["bytes"])]
        if len(there):
            rows["flags"][place], rows["tag"][place] = there[-1]["flags"], there[-1]["tag"]


def _put(ids: npt.NDArray[np.uint32], place: int, value: int) -> npt.NDArray[np.uint32]:
    if place >= len(ids):
        ids = np.concatenate([ids, np.zeros(max(place + 1 - len(ids), len(ids)), np.uint32)])
    ids[place] = value
    return ids
