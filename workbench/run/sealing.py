"""Turn the streams of a run into its final Parquet tables.

Rows are sorted by time and names become text. A table is written beside its stream and takes its place only when it is
whole, so a sealing that is cut short loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import RunError
from workbench.run import devices, schema
from workbench.run.columns import numbers, values
from workbench.run.migrations import VERSION, migrate_table
from workbench.run.streams import CODED, read_names, read_stream

ROWS_A_GROUP = 1 << 20
TIME_COLUMN = {
    "events": "time_ns",
    "phases": "start_ns",
    "totals": "time_ns",
    "copies": "time_ns",
    "tokens": "time_ns",
    "requests": "ended_ns",
    "steps": "end_ns",
}
MOMENTS = ("time_ns", "handed_ns", "start_ns", "end_ns")  # each row's a little after that of the row before
OF_DEVICES = ("events", "totals")  # they are of every GPU of the machine while they are written


def seal(folder: Path) -> dict[str, int]:
    """Write the Parquet tables of the run in `folder` from its streams; returns the rows of each."""
    names = read_names(folder)
    counts = {name: _seal_table(folder, name, names) for name in schema.TABLES}
    for name in (*schema.TABLES, "names"):
        (folder / f"{name}.arrow").unlink(missing_ok=True)
    return counts


def _seal_table(folder: Path, name: str, names: list[str]) -> int:
    rows = read_ordered(folder, name, names)
    write_table(folder, name, named(rows, schema.TABLES[name], names))
    return int(rows.num_rows)


def read_ordered(folder: Path, name: str, names: list[str], version: int = VERSION) -> pa.Table:
    """What a table's stream holds so far of what the run is of, in the order of time, names as numbers."""
    rows = read_coded(folder, name, version)
    if name in OF_DEVICES:
        events = rows if name == "events" else read_coded(folder, "events", version)
        ours = devices.used(events, names.index("driver") if "driver" in names else -1)
        if len(ours):  # else who uses which GPU is not known
            rows = rows.filter(pa.array(devices.is_of(rows, ours)))
    return by_time(rows, name)


def read_coded(folder: Path, name: str, version: int = VERSION) -> pa.Table:
    """What a table's stream holds so far, names as numbers; on the disk until it is touched."""
    batches: Iterable[pa.RecordBatch] = read_stream(folder / f"{name}.arrow")
    if version != VERSION:
        tables = (migrate_table(name, pa.Table.from_batches([batch]), version) for batch in batches)
        batches = (batch for table in tables for batch in table.to_batches())
    rows = pa.Table.from_batches(batches, CODED[name])
    return _told_last(rows) if name == "phases" else rows


def _told_last(phases: pa.Table) -> pa.Table:
    """A phase is written when it begins and again when it ends: only what was told of it last."""
    which = {tuple(row.values()): place for place, row in enumerate(phases.drop_columns("end_ns").to_pylist())}
    return phases.take(pa.array(which.values(), pa.int64()))


def by_time(rows: pa.Table, name: str) -> pa.Table:
    """`rows` in the order of time; rows of the same time keep the order in which they came."""
    column = TIME_COLUMN.get(name)
    if column is None or rows.num_rows < 2:
        return rows
    times = numbers(rows, column)
    if np.all(times[1:] >= times[:-1]):
        return rows
    return rows.combine_chunks().take(pa.array(np.argsort(times, kind="stable")))


def named(rows: pa.Table, table: pa.Schema, names: list[str], lost: str | None = None) -> pa.Table:
    """`rows` of a stream with its numbers replaced by the names that they stand for; `lost` is for those not known."""
    columns = []
    for field in table:
        column = rows[field.name]
        columns.append(column if column.type == field.type else _named_column(column, field.type, names, lost))
    return pa.table(columns, schema=table)


def _named_column(column: pa.ChunkedArray, kind: pa.DataType, names: list[str], lost: str | None) -> pa.Array:
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_list(kind):
        values = _named_values(array.values, names, lost)
        return pa.ListArray.from_arrays(array.offsets, values)
    return _named_values(array, names, lost)


def _named_values(ids: pa.Array, names: list[str], lost: str | None) -> pa.DictionaryArray:
    """Ids as text, with a dictionary of only the names that occur."""
    codes = values(ids.fill_null(0) if ids.null_count else ids)
    if lost is not None:
        names = [*names, lost]
        codes = np.minimum(codes.view(np.uint32), len(names) - 1)
    known = len(names) or int(ids.null_count == len(ids))
    if len(codes) and int(codes.view(np.uint32).max()) >= known:  # a negative id is a large one
        raise RunError(f"a name is missing: {len(names)} are known and a row refers to another")
    occurs = np.zeros(max(len(names), 1), dtype=bool)
    occurs[codes] = True
    if ids.null_count:
        occurs[0] |= bool(len(names))
    compact = np.cumsum(occurs, dtype=np.int32) - 1
    texts = pa.array([names[i] for i in np.flatnonzero(occurs)] if names else [], pa.string())
    mask = np.asarray(ids.is_null()) if ids.null_count else None
    return pa.DictionaryArray.from_arrays(pa.array(compact[codes], mask=mask), texts)


def write_table(folder: Path, name: str, table: pa.Table) -> None:
    """Write one Parquet table of a run, whole or not at all."""
    target = folder / f"{name}.parquet"
    temporary = target.with_suffix(".tmp")
    encoding = {column: "DELTA_BINARY_PACKED" for column in table.column_names if column in MOMENTS}
    try:
        with pq.ParquetWriter(
            temporary,
            table.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[column for column in table.column_names if column not in encoding],
            column_encoding=encoding or None,
            write_statistics=True,
            store_schema=True,
        ) as writer:
            for rows in _groups(table):
                writer.write_table(rows, row_group_size=ROWS_A_GROUP)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # where the disk did not take it


def _groups(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, max(table.num_rows, 1), ROWS_A_GROUP):
        yield table.slice(start, ROWS_A_GROUP)
