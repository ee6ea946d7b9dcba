"""Follow a run while it is written, from any process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from workbench.recorder.settings import FOLLOWED, SPOOL
from workbench.run import schema
from workbench.run.run import is_locked
from workbench.run.sealing import named
from workbench.run.streams import Tail, coded


class Feed:
    """What a run that is being recorded has that is new since the last look.

    While it is asked, the run is written ten times a second, else once in a while.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._tails = {table: Tail(self.folder / f"{table}.arrow") for table in (*schema.TABLES, "names")}
        self._names: list[str] = []

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
        batches = self._tails[table].new()
        if not batches:
            return schema.TABLES[table].empty_table()
        for batch in self._tails["names"].new():
            self._names += batch["text"].to_pylist()
        return named(pa.Table.from_batches(batches, coded(schema.TABLES[table])), schema.TABLES[table], self._names)
