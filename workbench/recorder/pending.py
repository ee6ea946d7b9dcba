"""Events that are not written yet, and how far they moved the bytes in use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.recorder.native import ALLOC, DRIVER, GPU, HOST, PAGEABLE
from workbench.recorder.rows import Rows, none

OUTER = ((GPU, DRIVER), (PAGEABLE, HOST))
"""The tiers that a picture shows while a run is recorded, and the layer whose events count there."""


@dataclass
class Move:
    """Where the bytes in use of a tier have gone since the last writing: `low` and `high` are on the way."""

    now: int = 0
    low: int = 0
    high: int = 0

    def add(self, rows: Rows) -> None:
        sizes = rows["bytes"].astype(np.int64)
        path = np.cumsum(np.where(rows["kind"] == ALLOC, sizes, -sizes)) + self.now
        self.low, self.high = min(self.low, int(path.min())), max(self.high, int(path.max()))
        self.now = int(path[-1])


class Pending:
    """Rows of events by process, in the order in which they came."""

    def __init__(self) -> None:
        self._rows: list[Rows] = []
        self._processes: list[npt.NDArray[np.int32]] = []
        self._moves: dict[int, Move] = {}

    def add(self, rows: Rows, pid: int) -> None:
        """Keep rows until they are taken."""
        if not len(rows):
            return
        self._rows.append(rows)
        self._processes.append(np.full(len(rows), pid, np.int32))
        for tier, layer in OUTER:
            mine = rows[(rows["tier"] == tier) & (rows["layer"] == layer)]
            if len(mine):
                self._moves.setdefault(tier, Move()).add(mine)

    def moved(self, tier: int) -> int:
        """How far the bytes in use of a tier went from the lowest to the highest since rows were taken last."""
        move = self._moves.get(tier, Move())
        return move.high - move.low

    def take(self) -> tuple[Rows, npt.NDArray[np.int32]]:
        """All rows, and the process of each; then there are none."""
        rows = np.concatenate(self._rows) if self._rows else none()
        processes = np.concatenate(self._processes) if self._rows else np.zeros(0, np.int32)
        self._rows, self._processes, self._moves = [], [], {}
        return rows, processes
