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


class Unrecorded:
    """Turns readings of a device's used memory into allocations by what was created just before each."""

    def __init__(self) -> None:
        self._readings: list[Rows] = []
        self._recorded: list[Rows] = []
        self._used: dict[int, int] = {}  # by device: used at the last reading, less what was recorded until then
        self._held: dict[tuple[int, int], int] = defaultdict(int)  # by device and owner

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
        if reading["flags"] & BASELINE or not grown:
            return []
        key = (int(reading["device"]), int(reading["owner"]))
        before, self._held[key] = self._held[key], max(0, self._held[key] + grown)
        return [
            _record(reading, kind, key, size)
            for kind, size in ((FREE, before), (ALLOC, self._held[key]))
            if size and before != self._held[key]
        ]


def _record(reading: np.void, kind: int, key: tuple[int, int], size: int) -> np.void:
    made = reading.copy()
    made["kind"], made["layer"], made["tier"], made["flags"] = kind, DRIVER, GPU, 0
    made["address"] = FIRST_ADDRESS + (key[0] << 32) + key[1]
    made["bytes"] = made["asked"] = size
    return made
