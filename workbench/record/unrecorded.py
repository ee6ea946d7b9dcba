"""Device memory that no allocation record shows: the context, loaded modules, graphs.

The driver takes it on its own account, so it is measured: by how much the device's used memory grew around the
creation of such a thing, less what was recorded as allocated in between. What grew at another moment is left for the
ledger to call unexplained.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from workbench.record.native import ALLOC, DRIVER, FREE, GPU, MEASURE
from workbench.record.rows import ROW, Rows, none

BASELINE = 1  # the flag of a reading taken before something is created
FIRST_ADDRESS = 1 << 56  # above every real one

Key = tuple[int, int, int]  # device, owner, tag


class Unrecorded:
    """Turns readings of a device's used memory into allocations by what was created just before each."""

    def __init__(self) -> None:
        self._readings: list[Rows] = []
        self._recorded: list[Rows] = []
        self._used: dict[int, int] = {}  # by device: used at the last reading, less what was recorded until then
        self._held: dict[Key, int] = defaultdict(int)

    def begin(self, device: int, used: int) -> None:
        """Say what was in use on a device before the run."""
        self._used[device] = used

    def add(self, batch: Rows) -> None:
        """Take readings and recorded driver allocations, in any order; `settle` sorts them."""
        readings = batch[batch["kind"] == MEASURE]
        recorded = batch[(batch["layer"] == DRIVER) & (batch["tier"] == GPU) & (batch["kind"] != MEASURE)]
        if len(readings):
            self._readings.append(readings)
        if len(recorded):
            self._recorded.append(recorded)

    def settle(self) -> Rows:
        """The allocations that explain the readings so far. Every record of their time must have been added."""
        rows = np.concatenate([*self._readings, *self._recorded, none()])
        rows = rows[np.argsort(rows["time_ns"], kind="stable")]
        self._readings, self._recorded = [], []
        made: list[np.void] = []
        for row in rows:
            device, size = int(row["device"]), int(row["bytes"])
            if row["kind"] == ALLOC:
                self._used[device] = self._used.get(device, 0) + size
            elif row["kind"] == FREE:
                self._used[device] = self._used.get(device, 0) - size
            else:
                made.extend(self._attribute(row, size - self._used.get(device, size)))
                self._used[device] = size
        return np.array(made, ROW)

    def _attribute(self, reading: np.void, grown: int) -> list[np.void]:
        """What `grown` bytes make of the memory of the reading's owner: more for its tag, or less, of any tag."""
        if reading["flags"] & BASELINE or not grown:
            return []
        made: list[np.void] = []
        device, owner, tag = int(reading["device"]), int(reading["owner"]), int(reading["tag"])
        if grown > 0:
            return self._change((device, owner, tag), grown, reading)
        for key in [key for key in self._held if key[:2] == (device, owner) and self._held[key]]:
            change = max(grown, -self._held[key])
            made += self._change(key, change, reading)
            grown -= change
        return made

    def _change(self, key: Key, change: int, reading: np.void) -> list[np.void]:
        before = self._held[key]
        self._held[key] += change
        address = FIRST_ADDRESS + list(self._held).index(key)
        sizes = ((FREE, before), (ALLOC, self._held[key]))
        return [_record(reading, kind, key, address, size) for kind, size in sizes if size]


def _record(reading: np.void, kind: int, key: Key, address: int, size: int) -> np.void:
    made = reading.copy()
    made["kind"], made["layer"], made["tier"], made["flags"] = kind, DRIVER, GPU, 0
    made["address"], made["tag"] = address, key[2]
    made["bytes"] = made["asked"] = size
    return made
