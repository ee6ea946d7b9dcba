"""Device memory that no allocation record shows: the context, loaded modules, graphs.

The driver takes it on its own account, so it is measured: by how much the device's used memory grew around the
creation of such a thing, less what was recorded as allocated in between. What grew at another moment is left for the
ledger to call unexplained.

Memory that one process made and others use stays in use after the first has given it back. That is measured too: around
its giving back, and around each of the others'.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from workbench.recorder.native import ALLOC, DRIVER, FREE, GPU, MEASURE
from workbench.recorder.rows import ROW, Rows

# Flags of a reading: before something is created, after a context ended, after shared memory was let go of; and the
# scribe's own, which belongs to nobody's call.
BASELINE, CONTEXT_ENDED, OUTLIVED, TRUTH = 1, 2, 4, 128
FIRST_ADDRESS = 1 << 56  # above every real one

Key = tuple[int, int, int, int]  # process, device, owner, tag


class Unrecorded:
    """Turns readings of a device's used memory into allocations by what was created just before each."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Rows]] = []  # of a process: readings, and recorded driver memory
        self._used: dict[int, int] = {}  # by device: used at the last reading, and what was recorded since
        self._held: dict[Key, int] = defaultdict(int)
        self._outlived: set[Key] = set()
        self._seen: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by device: when the truth was how much more

    def begin(self, device: int, used: int) -> None:
        """Say what was in use on a device before the run."""
        self._used[device] = used

    def add(self, process: int, readings: Rows, events: Rows) -> None:
        """Take readings, and of the events those of driver memory, in any order; `settle` sorts them."""
        recorded = events[(events["layer"] == DRIVER) & (events["tier"] == GPU)]
        if len(readings) or len(recorded):
            self._waiting.append((process, np.concatenate([readings, recorded])))

    def see(self, time_ns: int, used: list[int]) -> None:
        """Take the truth: what a call that is under way then has changed so far."""
        rows = np.zeros(len(used), ROW)
        rows["time_ns"], rows["kind"], rows["flags"] = time_ns, MEASURE, TRUTH
        rows["device"], rows["bytes"] = np.arange(len(used)), used
        if used:
            self._waiting.append((0, rows))

    def bury(self, process: int, time_ns: int) -> list[tuple[int, Rows]]:
        """The frees of all that a process held, which is gone: nobody reads a device for it any more."""
        frees = self.settle()
        for key in [key for key in self._held if key[0] == process and self._held[key]]:
            self._used[key[1]] -= self._held[key]
            at = np.zeros(1, ROW)
            at["time_ns"], at["device"] = time_ns, key[1]
            frees.append((process, self._change(key, -self._held[key], at[0])))
        return frees

    def settle(self) -> list[tuple[int, Rows]]:
        """By process, the allocations that explain the readings so far, all records of whose time must be there."""
        if not self._waiting:
            return []
        rows = np.concatenate([rows for _, rows in self._waiting])
        process = np.concatenate([np.full(len(rows), process) for process, rows in self._waiting])
        self._waiting = []
        order = np.argsort(rows["time_ns"], kind="stable")
        rows, process = rows[order], process[order]
        made: list[tuple[int, Rows]] = []
        for device in np.unique(rows["device"]):
            here = rows["device"] == device
            made += self._settle_device(int(device), rows[here], process[here])
        return made

    def _settle_device(self, device: int, rows: Rows, process: npt.NDArray[np.int64]) -> list[tuple[int, Rows]]:
        sign = np.select([rows["kind"] == ALLOC, rows["kind"] == FREE], [1, -1], 0)
        recorded = np.cumsum(sign * rows["bytes"].astype(np.int64))  # since the last reading of the call before
        made: list[tuple[int, Rows]] = []
        before = 0
        for place in np.flatnonzero(rows["kind"] == MEASURE):
            reading, since = rows[place], int(recorded[place]) - before
            size = int(reading["bytes"])
            grown = size - self._used.get(device, size - since) - since
            if reading["flags"] & TRUTH:
                self._seen[device].append((int(reading["time_ns"]), grown))
                continue
            left = self._beyond(reading, grown)
            self._used[device], before = size - left, int(recorded[place])
            for at, change in self._in_turn(reading, grown - left):
                made += self._attribute(int(process[place]), at, change)
        if device in self._used and len(recorded):
            self._used[device] += int(recorded[-1]) - before
        return made

    def _beyond(self, reading: np.void, grown: int) -> int:
        """How much of what has grown a reading can not have to do with."""
        return max(0, grown - int(reading["asked"])) if reading["flags"] & OUTLIVED else 0

    def _in_turn(self, reading: np.void, grown: int) -> list[tuple[np.void, int]]:
        """What a call changed, each part at the moment by which it was seen: the truth may have been read meanwhile."""
        parts, sofar = [], 0
        for time_ns, then in self._seen.pop(int(reading["device"]), []):
            then = min(max(then, 0), grown) if grown > 0 else max(min(then, 0), grown)
            if time_ns >= reading["address"] > 0 and then != sofar:
                at = reading.copy()
                at["time_ns"] = time_ns
                parts.append((at, then - sofar))
                sofar = then
        return [*parts, (reading, grown - sofar)]

    def _attribute(self, process: int, reading: np.void, grown: int) -> list[tuple[int, Rows]]:
        """What `grown` bytes make of the memory of the reading's owner: more for its tag, or less, of any tag."""
        if reading["flags"] & BASELINE or not grown:
            return []
        device, owner, tag = int(reading["device"]), int(reading["owner"]), int(reading["tag"])
        if grown > 0:
            key = process, device, owner, tag
            if reading["flags"] & OUTLIVED:
                self._outlived.add(key)
            return [(process, self._change(key, grown, reading))]
        made = []
        for key in self._shrinking(process, reading, -grown):
            if change := max(grown, -self._held[key]):
                made.append((key[0], self._change(key, change, reading)))
                grown -= change
        return made

    def _shrinking(self, process: int, reading: np.void, size: int) -> list[Key]:
        """Whose memory became less by `size`, in turn. What was made in a context goes before it, if that has ended."""
        if reading["flags"] & OUTLIVED:
            return [key for key in self._outlived if key[1] == int(reading["device"])]
        here = [key for key in self._held if key[:2] == (process, int(reading["device"])) and self._held[key]]
        mine = [key for key in here if key[2] == int(reading["owner"])]
        if reading["flags"] & CONTEXT_ENDED and size > sum(self._held[key] for key in mine):
            return [key for key in here if key not in mine] + mine
        return mine

    def _change(self, key: Key, change: int, at: np.void) -> Rows:
        before = self._held[key]
        self._held[key] += change
        made = np.array([at, at], ROW)
        made["kind"], made["bytes"] = (FREE, ALLOC), (before, self._held[key])
        made["layer"], made["tier"], made["flags"], made["owner"], made["tag"] = DRIVER, GPU, 0, key[2], key[3]
        made["address"] = FIRST_ADDRESS + list(self._held).index(key)
        made["asked"] = made["bytes"]
        return made[made["bytes"] > 0]
