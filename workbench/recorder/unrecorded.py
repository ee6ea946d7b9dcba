"""Device memory that no allocation record shows: the context, loaded modules, graphs.

The driver takes it on its own account, so it is measured: by how much the device's used memory grew around the
creation of such a thing, less what was recorded as allocated in between. What grew at another moment is left for the
ledger to call unexplained.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from workbench.recorder.native import ALLOC, DRIVER, FREE, GPU, MEASURE
from workbench.recorder.rows import ROW, Rows, none

BASELINE, CONTEXT_ENDED = 1, 2  # flags of a reading taken before something is created, after a context ended
FIRST_ADDRESS = 1 << 56  # above every real one

Key = tuple[int, int, int, int]  # process, device, owner, tag


class Unrecorded:
    """Turns readings of a device's used memory into allocations by what was created just before each."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Rows]] = []  # of a process: readings, and recorded driver memory
        self._used: dict[int, int] = {}  # by device: used at the last reading, and what was recorded since
        self._held: dict[Key, int] = defaultdict(int)

    def begin(self, device: int, used: int) -> None:
        """Say what was in use on a device before the run."""
        self._used[device] = used

    def add(self, process: int, readings: Rows, events: Rows) -> None:
        """Take readings, and of the events those of driver memory, in any order; `settle` sorts them."""
        recorded = events[(events["layer"] == DRIVER) & (events["tier"] == GPU)]
        if len(readings) or len(recorded):
            self._waiting.append((process, np.concatenate([readings, recorded])))

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
            self._used[device], before = size, int(recorded[place])
            made.append((int(process[place]), self._attribute(int(process[place]), reading, grown)))
        if device in self._used and len(recorded):
            self._used[device] += int(recorded[-1]) - before
        return [(who, rows) for who, rows in made if len(rows)]

    def _attribute(self, process: int, reading: np.void, grown: int) -> Rows:
        """What `grown` bytes make of the memory of the reading's owner: more for its tag, or less, of any tag."""
        if reading["flags"] & BASELINE or not grown:
            return none()
        device, owner, tag = int(reading["device"]), int(reading["owner"]), int(reading["tag"])
        if grown > 0:
            return self._change((process, device, owner, tag), grown, reading)
        made = [none()]
        for key in self._shrinking(process, reading, -grown):
            change = max(grown, -self._held[key])
            made.append(self._change(key, change, reading))
            grown -= change
        return np.concatenate(made)

    def _shrinking(self, process: int, reading: np.void, size: int) -> list[Key]:
        """Whose memory became less by `size`, in turn. What was made in a context goes before it, if that has ended."""
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
