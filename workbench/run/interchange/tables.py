"""A run's tables as CSV and Parquet files, names as text."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from workbench.run import schema
from workbench.run.interchange.files import Tables, replacing


def export_csv(run: Tables, path: Path, overwrite: bool = False) -> None:
    """Write the events to `path` if it ends in .csv; else a folder with one file a table.

    A cell without quotes is empty where nothing is known. The frames of a stack are the lines of one cell.
    """
    with replacing(path, overwrite) as temporary:
        if path.suffix == ".csv":
            csv.write_csv(_flat(run.table("events")), temporary)
        else:
            temporary.mkdir()
            for name in schema.TABLES:
                csv.write_csv(_flat(run.table(name)), temporary / f"{name}.csv")


def export_parquet(run: Tables, path: Path, overwrite: bool = False) -> None:
    """Write the events to `path` if it ends in .parquet; else a folder with one file a table."""
    with replacing(path, overwrite) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(run.table("events"), temporary)
        else:
            temporary.mkdir()
            for name in schema.TABLES:
                _write_parquet(run.table(name), temporary / f"{name}.parquet")


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _flat(table: pa.Table) -> pa.Table:
    """`table` with columns of text and numbers only."""
    columns = {field.name: _flat_column(table[field.name], field.type) for field in table.schema}
    return pa.table(columns)


def _flat_column(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind):
        return column.cast(pa.string())
    if pa.types.is_list(kind):
        return pc.binary_join(column.cast(pa.list_(pa.string())), "\n")
    return column
