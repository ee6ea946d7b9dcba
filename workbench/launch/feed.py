"""Follow a run while it is written, from any process."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pyarrow as pa

from workbench.run import schema
from workbench.run.run import is_locked
from workbench.run.sealing import named
from workbench.run.streams import coded, read_names, read_stream


class Feed:
    """What a run that is being recorded has that is new since the last look."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._batches = dict.fromkeys(schema.TABLES, 0)
        self._sizes = dict.fromkeys(schema.TABLES, 0)  # of the streams, in bytes, at the last look

    @property
    def is_live(self) -> bool:
        """Whether more can come."""
        return is_locked(self.folder)

    def new(self, table: str) -> pa.Table:
        """The rows of a table written since the last call, names as text."""
        if not self._has_grown(table):
            return schema.TABLES[table].empty_table()
        batches = list(islice(read_stream(self.folder / f"{table}.arrow"), self._batches[table], None))
        self._batches[table] += len(batches)
        rows = pa.Table.from_batches(batches, coded(schema.TABLES[table]))
        return named(rows, schema.TABLES[table], read_names(self.folder))

    def _has_grown(self, table: str) -> bool:
        """A look at the size costs next to nothing, so that one may look often."""
        path = self.folder / f"{table}.arrow"
        before, self._sizes[table] = self._sizes[table], path.stat().st_size if path.exists() else 0
        return self._sizes[table] > before
