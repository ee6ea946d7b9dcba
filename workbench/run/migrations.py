"""Bring the manifest of an older run up to the present schema, step by step.

A step takes a document of version N and returns one of version N + 1. Tables change with their own functions in
`TABLE_STEPS`, keyed the same way, so that a run is migrated as it is read and never rewritten in place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError

if TYPE_CHECKING:  # a recorded process reads its manifest, and must not be made to hold pyarrow
    import pyarrow as pa

VERSION = 4
"""Of the tables and the manifest. Grows by one when a table comes, or a column or field changes its name or meaning."""

MANIFEST_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda document: document,  # two tables came: `requests` and `steps`
    2: lambda document: document,  # `copies` has a column more
    3: lambda document: document,  # and another
}


def _with_calls(name: str, table: pa.Table) -> pa.Table:
    """How long it took to submit a copy came; in older runs that is not known."""
    import pyarrow as pa

    if name != "copies":
        return table
    return table.add_column(1, pa.field("call_ns", pa.int64()), pa.nulls(table.num_rows, pa.int64()))


def _with_handing(name: str, table: pa.Table) -> pa.Table:
    """When a copy was handed on to the driver came; older runs called that when it was submitted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name != "copies":
        return table
    nothing = pa.scalar(None, pa.int64())
    handed = pc.if_else(pc.is_valid(table["call_ns"]), table["time_ns"], nothing)
    return table.add_column(1, pa.field("handed_ns", pa.int64()), handed)


TABLE_STEPS: dict[int, Callable[[str, pa.Table], pa.Table]] = {
    1: lambda _, table: table,
    2: _with_calls,
    3: _with_handing,
}


def migrate(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`document` as the present schema has it; refuses what is newer than this program."""
    version = document.get("schema")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RunError(f"{folder} is not a run: its manifest has no schema version")
    if version > VERSION:
        raise RunError(
            f"{folder} is of schema {version}; this workbench reads up to {VERSION}: upgrade memory-workbench"
        )
    for step in range(version, VERSION):
        document = MANIFEST_STEPS[step](document)
    return document


def migrate_table(name: str, table: pa.Table, version: int) -> pa.Table:
    """A table of a run of schema `version` as the present schema has it."""
    for step in range(version, VERSION):
        table = TABLE_STEPS[step](name, table)
    return table
