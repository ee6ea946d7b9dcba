"""Follow a run while it is written, from any process."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from workbench.recorder.settings import FOLLOWED, SPOOL
from workbench.run import schema
from workbench.run.folder import is_locked
from workbench.run.run import Run
from workbench.run.sealing import named
from workbench.run.streams import CODED, Tail

NOTHING = {name: shape.empty_table() for name, shape in CODED.items()}
SAY_AGAIN_S = 0.2


class Feed:
    """What a run that is being recorded has that is new since the last look.

    While it is asked, what a picture of the run would show is written within a tenth of a second, else all of it once
    in a while.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._followed, self._said = self.folder / SPOOL / FOLLOWED, 0.0
        self._is_open = False
        self.names: list[str] = []
        self._ids: dict[str, int] = {}  # and their places in it
        self._tails = {table: Tail(self.folder / f"{table}.arrow") for table in ("names", *schema.TABLES)}
        self._told_sealed: set[str] = set()

    @property
    def is_live(self) -> bool:
        """Whether more can come."""
        return is_locked(self.folder)

    def new(self, table: str) -> pa.Table:
        """The rows of a table written since the last call, names as text.

        A phase is told when it begins, without an end, and again with it.
        """
        return named(self.new_coded(table), schema.TABLES[table], self.names)

    def new_coded(self, table: str) -> pa.Table:
        """The same with each name as its place in `names`: a small part of the work, for who looks often."""
        self._say_that_it_is_followed()
        if not self._is_open:  # sealing removes them all, with rows that were not read yet
            self._is_open = sum(tail.open() for tail in self._tails.values()) == len(self._tails)
        if not self._tails[table].open():
            return self._sealed(table)
        batches = self._tails[table].new()
        if not batches:
            return NOTHING[table]
        for batch in self._tails["names"].new():
            self._learn(batch["text"].to_pylist())
        return pa.Table.from_batches(batches, CODED[table])

    def _say_that_it_is_followed(self) -> None:
        if time.monotonic() - self._said > SAY_AGAIN_S:
            self._said = time.monotonic()
            with suppress(OSError):  # the recording has ended
                self._followed.touch()

    def id(self, name: str) -> int:
        """The place of a name, -1 where no row can have it yet."""
        return self._ids.get(name, -1)

    def _learn(self, names: list[str]) -> None:
        for name in names:
            self._ids[name] = len(self.names)
            self.names.append(name)

    def _sealed(self, table: str) -> pa.Table:
        """Where the run was sealed before its stream was looked for: all of the table, once."""
        shape = CODED[table]
        if table in self._told_sealed or not (self.folder / f"{table}.parquet").exists():
            return NOTHING[table]
        self._told_sealed.add(table)
        rows = Run.open(self.folder).table(table)
        return pa.table([self._coded(rows[field.name], field.type) for field in shape], schema=shape)

    def _coded(self, column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
        if column.type == kind:
            return column
        if pa.types.is_list(kind):
            lists = column.combine_chunks()
            return pa.ListArray.from_arrays(
                lists.offsets, self._coded(pa.chunked_array([lists.values]), kind.value_type)
            )
        texts = column.unify_dictionaries().combine_chunks()
        self._learn([text for text in texts.dictionary.to_pylist() if text not in self._ids])
        places = pa.array([self._ids[text] for text in texts.dictionary.to_pylist()], pa.int32())
        return places.take(texts.indices)
