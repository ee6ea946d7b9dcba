"""Rows as they go into the tables of a run: times from its start on, and words by the numbers of its names."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.recorder.native import ALLOC
from workbench.recorder.rows import Rows
from workbench.run import schema
from workbench.run.streams import CODED, Names


class Batches:
    """Makes batches of one run."""

    def __init__(self, names: Names, started_ns: int) -> None:
        self._started_ns = started_ns
        self._kinds = _codes(names, schema.KINDS)
        self._layers = _codes(names, schema.LAYERS)
        self._tiers = _codes(names, schema.TIERS)
        self._directions = _codes(names, schema.DIRECTIONS)

    def events(self, rows: Rows, processes: npt.NDArray[np.int32]) -> pa.RecordBatch:
        """Allocations and frees; `processes`: whose each is."""
        columns = [
            pa.array(rows["time_ns"].astype(np.int64) - self._started_ns),
            pa.array(self._kinds[rows["kind"]]),
            pa.array(self._layers[rows["layer"]]),
            pa.array(self._tiers[rows["tier"]]),
            pa.array(rows["owner"].astype(np.int32)),
            pa.array(rows["tag"].astype(np.int32), mask=rows["tag"] == 0),
            pa.array(rows["bytes"].astype(np.int64)),
            pa.array(rows["asked"].astype(np.int64)),
            pa.array(rows["address"]),
            pa.array(rows["device"]),
            pa.array(rows["stream"]),
            pa.array(processes),
            pa.array(rows["thread"].astype(np.int32)),
            pa.array(np.where(rows["kind"] == ALLOC, rows["stack"], 0).astype(np.int32)),
        ]
        return pa.record_batch(columns, schema=CODED["events"])

    def numbers(self, table: pa.Schema, rows: list[list[int]]) -> pa.RecordBatch:
        """Rows of a table that has only numbers."""
        given = zip(table, np.array(rows, np.int64).T, strict=True)
        start = self._started_ns
        columns = [pa.array(some - start if of.name.endswith("_ns") else some, of.type) for of, some in given]
        return pa.record_batch(columns, schema=table)

    def copies(self, rows: Rows, pid: int) -> pa.RecordBatch:
        """The copies that a process submitted."""
        handed = rows["time_ns"].astype(np.int64) - self._started_ns
        only_submitted, unseen = rows["address"] == 0, rows["thread"] == 0
        columns = [
            pa.array(handed - 1000 * rows["tag"].astype(np.int64)),  # `waited_us`: see `rows`
            pa.array(handed, mask=unseen),
            pa.array(rows["thread"].astype(np.int64), mask=unseen),
            pa.array(rows["asked"].astype(np.int64) - self._started_ns, mask=only_submitted),
            pa.array(rows["address"].astype(np.int64) - self._started_ns, mask=only_submitted),
            pa.array(rows["bytes"].astype(np.int64)),
            pa.array(self._directions[rows["flags"]]),
            pa.array(rows["device"]),
            pa.array(rows["stream"]),
            pa.array(np.full(len(rows), pid, np.int32)),
        ]
        return pa.record_batch(columns, schema=CODED["copies"])


def _codes(names: Names, words: tuple[str, ...]) -> npt.NDArray[np.int32]:
    """The names of words that a record numbers from 1."""
    return np.array([0, *(names.id(word) for word in words)], np.int32)
