"""Follow a run while it is written, from any process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from workbench.recorder.settings import FOLLOWED, SPOOL
from workbench.run import schema
from workbench.run.run import Run, is_locked
from workbench.run.sealing import named
from workbench.run.streams import Tail, coded


class Feed:
    """What a run that is being recorded has that is new since the last look.

    While it is asked, the run is written ten times a second, else once in a while.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._tails = {table: Tail(self.folder / f"{table}.arrow") for table in ("names", *schema.TABLES)}
        self._names: list[str] = []
        self._told_sealed: set[str] = set()

    @property
    def is_live(self) -> bool:
        """Whether more can come."""
        return is_locked(self.folder)

    def new(self, table: str) -> pa.Table:
        """The rows of a table written since the last call, names as text.

        A phase is told when it begins, without an end, and again with it.
        """
        with suppress(OSError):  # the recording has ended
            (self.folder / SPOOL / FOLLOWED).touch()
        for tail in self._tails.values():  # sealing removes them all, with rows that were not read yet
            tail.open()
        if not self._tails[table].open():
            return self._sealed(table)
        batches = self._tails[table].new()
        if not batches:
            return schema.TABLES[table].empty_table()
        for batch in self._tails["names"].new():
            self._names += batch["text"].to_pylist()
        return named(pa.Table.from_batches(batches, coded(schema.TABLES[table])), schema.TABLES[table], self._names)

    def _sealed(self, table: str) -> pa.Table:
        """Where the run was sealed before its stream was looked for: all of the table, once."""
        if table in self._told_sealed or not (self.folder / f"{table}.parquet").exists():
            return schema.TABLES[table].empty_table()
        self._told_sealed.add(table)
        return Run.open(self.folder).table(table)
