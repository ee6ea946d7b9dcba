"""One recorded execution, read from its folder: also while it is still being written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.errors import RunError
from workbench.run import manifest as manifests
from workbench.run import schema
from workbench.run.folder import is_locked, new_folder
from workbench.run.ledger import COLUMNS as OF_A_LEDGER
from workbench.run.ledger import Ledger, ledger_at, readings, truth
from workbench.run.manifest import Manifest
from workbench.run.migrations import VERSION, migrate_table
from workbench.run.sealing import TIME_COLUMN, by_time, named, read_coded, read_ordered, write_table
from workbench.run.streams import damage, read_names
from workbench.run.timeline import COLUMNS as OF_A_TIMELINE
from workbench.run.timeline import Timeline, timelines
from workbench.units import SECOND

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from workbench.view.widget import TimelineView

LOST = "name lost"  # of what refers to a name behind the damage of a stream
CUT_OFF = "the recording was cut off: its scribe was killed, or could not write to its disk"


class Run:
    """A recorded execution: its manifest, tables, timelines and ledgers. Reads only its folder."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._tables: dict[str, pa.Table] = {}
        self._columns: dict[str, dict[str, pa.ChunkedArray]] = {}
        self._timelines: dict[str, Timeline] = {}

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in `folder`. One whose scribe is gone before its end is `incomplete`."""
        folder = Path(folder)
        manifest = Manifest.read(folder)
        run = cls(folder, manifest)
        if manifest.status == manifests.RECORDING and not is_locked(folder):
            manifest.status = manifests.INCOMPLETE
            manifest.error = manifest.error or {"what": CUT_OFF}
        if manifest.status == manifests.INCOMPLETE and not manifest.counts:
            with suppress(RunError, OSError):  # what can not be read at all is told of when it is read
                run._look_for_damage()
                run._count()
        return run

    @property
    def id(self) -> str:
        """The id of the run, unique in its store."""
        return self.manifest.id

    @property
    def workloads(self) -> list[dict[str, Any]]:
        """What the engine was asked, in order: `prompts` and rules. The prompts of all are its requests 0, 1, 2 …"""
        return self.manifest.workloads

    def _look_for_damage(self) -> None:
        """Tell of streams that lack more than what was being written last."""
        streams = [self.folder / f"{name}.arrow" for name in ("names", *schema.TABLES) if not self.sealed(name)]
        what = [(self.manifest.error or {"what": CUT_OFF})["what"], *filter(None, map(damage, streams))]
        self.manifest.error = (self.manifest.error or {}) | {"what": "; ".join(what)}

    def _count(self) -> None:
        """What its scribe did not come to say: how many rows were written, and until when."""
        counts, last_ns = {}, 0
        for name in schema.TABLES:
            with self._refusing(name):
                path, column = self.sealed(name), TIME_COLUMN.get(name)
                rows = pq.read_table(path) if path else read_coded(self.folder, name, self.manifest.schema)
                counts[name] = rows.num_rows
                last_ns = max(last_ns, (pc.max(rows[column]).as_py() or 0) if column else 0)
        self.manifest.counts = counts
        self.manifest.duration_s = self.manifest.duration_s or last_ns / SECOND or None

    def table(self, name: str) -> pa.Table:
        """One of the tables of `schema.TABLES`, in the order of time."""
        if name not in schema.TABLES:
            raise RunError(f"a run has no table {name!r}; it has {', '.join(schema.TABLES)}")
        if name not in self._tables:
            with self._refusing(name):
                self._tables[name] = self._read(name)
        return self._tables[name]

    def columns(self, name: str, columns: Sequence[str]) -> pa.Table:
        """Only these columns of a table, each in one piece: of a large one, a fraction of what `table` takes."""
        path = self.sealed(name) if name not in self._tables and self.manifest.schema == VERSION else None
        if path is None:
            return self.table(name).select(columns).combine_chunks()
        kept = self._columns.setdefault(name, {})
        if missing := [column for column in columns if column not in kept]:
            kept |= dict(zip(missing, self._read_columns(name, path, missing).columns, strict=True))
        return pa.table([kept[column] for column in columns], names=list(columns))

    def _read_columns(self, name: str, path: Path, columns: list[str]) -> pa.Table:
        with self._refusing(name):
            read = pq.ParquetFile(path, memory_map=True).read(columns=columns)
            kinds = pa.schema([schema.TABLES[name].field(column) for column in columns])
            found = (read if read.schema == kinds else read.cast(kinds)).combine_chunks()
            found.validate(full=True)
            return found

    def _events(self, columns: Sequence[str]) -> pa.Table:
        """The events with these columns at least: all of them where they are read already."""
        return self._tables.get("events") or self.columns("events", columns)

    def sealed(self, name: str) -> Path | None:
        """The Parquet file of a table, once it is looked at; None while the table is still a stream."""
        path = self.folder / f"{name}.parquet"
        if self.manifest.schema < schema.SINCE.get(name, 1):
            return None
        if not path.exists():
            if self.manifest.status in (manifests.RECORDING, manifests.INCOMPLETE):
                return None
            raise RunError(f"{self.folder} is damaged: its {name} table is missing")
        if not path.is_file():
            raise RunError(f"{path} is no file")
        with self._refusing(name), pq.ParquetFile(path, memory_map=True) as file:
            if self.manifest.schema == VERSION:  # an older one is looked at when it has been brought up
                self._check_columns(name, file.schema_arrow.names)
        return path

    def _read(self, name: str) -> pa.Table:
        path = self.sealed(name)
        if path is None:
            names = read_names(self.folder)
            rows = read_ordered(self.folder, name, names, self.manifest.schema)
            lost = LOST if damage(self.folder / "names.arrow") else None
            return named(rows, schema.TABLES[name], names, lost)
        table = migrate_table(name, pq.ParquetFile(path, memory_map=True).read(), self.manifest.schema)
        self._check_columns(name, table.column_names)
        if table.schema != schema.TABLES[name]:
            table = table.cast(schema.TABLES[name])
        table.validate(full=True)
        return table

    def _check_columns(self, name: str, columns: list[str]) -> None:
        if columns != schema.TABLES[name].names:
            raise RunError(f"it is not the {name} table of a run: its columns are {', '.join(columns)}")

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        """What pyarrow and numpy raise at a file that is not what it should be, as one line."""
        try:
            yield
        except (RunError, pa.ArrowException, OSError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            what = f"the {name} table of {self.folder} can not be read"
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunError(reason if reason.startswith(what) else f"{what}: {reason}") from None

    def events(self) -> pd.DataFrame:
        """Every allocation and free, as a pandas DataFrame with the columns of `schema.EVENTS`."""
        return self.table("events").to_pandas()

    def phases(self) -> pd.DataFrame:
        """The named intervals of the run, as a pandas DataFrame."""
        return self.table("phases").to_pandas()

    def timeline(self, tier: str) -> Timeline:
        """Bytes in use over time in a tier: gpu, pinned or pageable."""
        if tier not in self._timelines:
            self._timelines[tier] = Timeline.of(self._events(OF_A_TIMELINE), _known_tier(tier))
        return self._timelines[tier]

    def timelines(self, tier: str, by: str = "owner") -> dict[str, Timeline]:
        """Bytes in use over time in a tier, for each owner or each tag."""
        return timelines(self._events((*OF_A_TIMELINE, by)), _known_tier(tier), by)

    def ledger(self, tier: str, at_ns: int | None = None) -> Ledger:
        """Who holds the bytes of a tier at a moment; by default at the phase edge where most was used."""
        moment = self.fullest_edge(tier) if at_ns is None else at_ns
        return ledger_at(self._events(OF_A_LEDGER), self.table("totals"), _known_tier(tier), moment)

    def fullest_edge(self, tier: str) -> int:
        """The phase edge at which most was used; where no truth is known, the moment of the peak."""
        totals, phases = self.table("totals"), self.table("phases")
        edges = {*phases["start_ns"].to_pylist(), *phases["end_ns"].drop_null().to_pylist()}
        moments: list[int] = readings(totals, tier).tolist()
        moments = [moment for moment in moments if moment in edges] or moments
        if not moments:
            return self.timeline(tier).peak.time_ns
        return max(moments, key=lambda moment: truth(totals, tier, moment) or 0)

    def stack(self, number: int) -> list[str]:
        """The frames of a stack, innermost first."""
        stacks = self.table("stacks")
        place = stacks["stack"].to_pylist().index(number)
        frames: list[str] = stacks["frames"][place].as_py()
        return frames

    def view(self, tier: str | None = None, by: str = "owner") -> TimelineView:
        """The run as a widget to look around in: what a notebook shows for it. By owner or by tag."""
        from workbench.view.widget import TimelineView

        return TimelineView(self, tier, by)

    def figure(self, tier: str | None = None, by: str = "owner", width: float = 7.0) -> Figure:
        """Bytes over time as a matplotlib figure, so many inches wide: for papers, as SVG or PDF."""
        from workbench.view.figure import timeline_figure

        return timeline_figure(self, tier, by, width)

    def to_html(self, path: str | Path) -> Path:
        """Writes the run as one HTML file of at most 2 MiB: zoomable, without a network; returns its path."""
        from workbench.view.page import page, write
        from workbench.view.screen import Screen

        return write(page(Screen(self)), path)

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.manifest.status}>"

    def _ipython_display_(self) -> None:
        self.view()._ipython_display_()


def write_run(folder: Path, manifest: Manifest, tables: dict[str, pa.Table]) -> Run:
    """Write a finished run from tables at hand, as an import does; the tables that are not given are empty."""
    with new_folder(folder):
        for name, columns in schema.TABLES.items():
            table = by_time(tables.get(name, columns.empty_table()), name)
            write_table(folder, name, table)
            manifest.counts[name] = table.num_rows
        manifest.write(folder)
    return Run.open(folder)


def _known_tier(tier: str) -> str:
    if tier not in schema.TIERS:
        raise RunError(f"there is no tier {tier!r}; tiers are {', '.join(schema.TIERS)}")
    return tier
