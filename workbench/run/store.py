"""A folder of runs, and SQL across them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pyarrow as pa

from workbench.errors import RunError, nearest
from workbench.run import schema
from workbench.run.folder import is_locked, new_folder
from workbench.run.manifest import FILE, Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


def home() -> Path:
    """Where the workbench keeps its things: $WORKBENCH_HOME, or the platform's folder for user data."""
    chosen = os.environ.get("WORKBENCH_HOME")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("memory-workbench"))


TIMED = len("20261121-101500")  # characters of an id that tell its second


class Store:
    """A folder of runs; by default the user's own."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else home() / "runs"

    @classmethod
    def recorded(cls) -> Store:
        """The runs that come with the workbench: of GPUs that are not at hand everywhere. See `data/README.md`."""
        return cls(Path(str(resources.files("workbench.recorded"))))

    def create(self, manifest: Manifest) -> Path:
        """Make the folder of a new run, with its manifest in it."""
        folder = self.folder / manifest.id
        with new_folder(folder):
            manifest.write(folder)
        return folder

    def refuse_unwritable(self) -> None:
        """Raise the error that the next run would: of what takes long it is better known before."""
        folder = self.folder / f".{secrets.token_hex(4)}"
        with new_folder(folder):
            pass
        folder.rmdir()

    def open(self, run: str) -> Run:
        """The run of this id, a unique beginning or ending of one, a path, or `latest`."""
        if (Path(run) / FILE).exists():
            return Run.open(run)
        ids = self.ids()
        if run == "latest" and ids:
            return Run.open(self.folder / ids[0])
        found = [one for one in ids if one == run] or [one for one in ids if one.startswith(run) or one.endswith(run)]
        if len(found) == 1:
            return Run.open(self.folder / found[0])
        if found:
            raise RunError(f"{run!r} could be any of {', '.join(found[:5])}; give more of the id")
        raise RunError(f"there is no run {run!r} in {self.folder}: {nearest(run, ids[:8])}")

    def ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        if not self.folder.exists():
            return []
        if not self.folder.is_dir():
            raise RunError(f"{self.folder} is no folder of runs")
        found = [(path.parent.name, path.stat().st_mtime_ns) for path in self.folder.glob(f"*/{FILE}")]
        found.sort(key=lambda one: (one[0][:TIMED], one[1]), reverse=True)  # of one second, the last written first
        return [name for name, _ in found]

    def runs(self, refused: Callable[[RunError], None] | None = None) -> list[Run]:
        """All runs that can be read, newest first; `refused` is told why another folder can not be."""
        runs = []
        for one in self.ids():
            try:
                runs.append(Run.open(self.folder / one))
            except RunError as error:  # somebody else's folder, damaged, or of a newer schema
                if refused:
                    refused(error)
        return runs

    def remove(self, run: str) -> None:
        """Delete a run for good."""
        opened = self.open(run)
        if is_locked(opened.folder):
            raise RunError(f"{opened.id} is being recorded; stop that first")
        shutil.rmtree(opened.folder)

    def sql(self, query: str) -> pd.DataFrame:
        """The answer to a SQL query over the views `runs, events, phases …` of all runs.

        Every view has a column `run`, the id of the run that a row is of.
        """
        import duckdb  # slow to load, and nothing else needs it

        with duckdb.connect() as connection:
            runs = self.runs()
            connection.register("runs", _overview(runs))
            words = set(re.findall(r"\w+", query.lower()))
            try:
                for name in schema.TABLES:  # a damaged table stops only the queries that name it
                    _create_view(connection, name, runs if name in words else [])
                answer = connection.sql(query)
                if answer is not None:
                    return answer.df()
            except duckdb.Error as error:
                if not isinstance(error, (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)):
                    _refuse_damaged(runs, words)
                raise RunError(f"the query failed: {' '.join(str(error).split())}") from None
        raise RunError(f"the query {query!r} has no answer: write a select")


def _overview(runs: list[Run]) -> pa.Table:
    manifests = [run.manifest for run in runs]
    return pa.table(
        {
            "run": [m.id for m in manifests],
            "name": [m.name for m in manifests],
            "status": [m.status for m in manifests],
            "started": [m.started for m in manifests],
            "duration_s": pa.array([m.duration_s for m in manifests], pa.float64()),
        },
        schema=pa.schema(
            [(name, pa.string()) for name in ("run", "name", "status", "started")] + [("duration_s", pa.float64())]
        ),
    )


def _refuse_damaged(runs: list[Run], names: set[str]) -> None:
    """Raise the error of the run whose table is damaged, if any: duckdb does not always say which file it read."""
    for run in runs:
        for name in names & set(schema.TABLES):
            Run.open(run.folder).table(name)  # opened anew, so that it is not kept


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, runs: list[Run]) -> None:
    """One view over a table of all runs: finished ones are read by duckdb itself, column by column."""
    parts = []
    for number, run in enumerate(runs):
        path = run.sealed(name)
        if path and run.manifest.schema == VERSION:
            rows = f"read_parquet({_quoted(str(path))})"
        else:
            rows = f"{name}_{number}"
            connection.register(rows, run.table(name))
        parts.append(f"select {_quoted(run.id)} as run, * from {rows}")
    if not parts:
        connection.register("no_rows", schema.TABLES[name].empty_table())
        parts = ["select '' as run, * from no_rows"]
    connection.sql(" union all by name ".join(parts)).create_view(name)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
