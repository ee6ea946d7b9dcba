"""How soon a run is painted in a browser, and how soon after a zoom or a pan; and how large and quick its page is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.benchmarks import disk, material
from tests.benchmarks.processes import Document, found, program
from tests.benchmarks.rows import Row, least_to_most
from workbench.run.interchange import import_snapshot
from workbench.run.manifest import IMPORTED, Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run, write_run

TIMES = 10
ROOT = Path(__file__).parents[2]
MOST_MS = {1: {"first": 1000, "zoom": 50, "pan": 50}, TIMES: {"first": 3000, "zoom": 100, "pan": 100}}
MOST_PAGE_MIB, MOST_PAGE_MS = 2.0, 1000.0


def measure(folder: Path, quick: bool) -> list[Row]:
    """The events of a generation as PyTorch's snapshot has them, drawn by us; and ten of it in ten processes."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium is on the PATH; on Debian: apt-get install chromium")
    made = material.make(folder, quick)
    disk.export(made)
    once = _kept(folder / "views-1", import_snapshot(made.snapshot).tables)
    often = _kept(folder / f"views-{TIMES}", {"events": _often(once.table("events"))})
    rows = [row for times, run in ((1, once), (TIMES, often)) for row in _looked(run, times, chromium, quick)]
    return [*rows, *_page(often, folder, chromium)]


def _kept(folder: Path, tables: dict[str, pa.Table]) -> Run:
    manifest = Manifest.new("generation", VERSION)
    manifest.status = IMPORTED
    return write_run(folder, manifest, tables)


def _often(events: pa.Table) -> pa.Table:
    """The events ten times over, one after the other, each time in a process of its own."""
    period = pc.max(events["time_ns"]).as_py() + 1
    time, process = (events.schema.get_field_index(name) for name in ("time_ns", "process"))
    turns = []
    for turn in range(TIMES):
        later = events.set_column(time, events.field(time), pc.add(events["time_ns"], turn * period))
        number = pc.add(events["process"], pa.scalar(turn, pa.int32()))
        turns.append(later.set_column(process, events.field(process), number))
    return pa.concat_tables(turns)


def _looked(run: Run, times: int, chromium: str, quick: bool) -> list[Row]:
    rounds = [_look("look.py", run.folder, chromium) for _ in range(1 if quick else 3)]
    events = f"{run.manifest.counts['events'] / 1e6:.2f} M events"
    firsts = [float(each["first_ms"]) for each in rounds]
    rows = [Row(f"first painting, {events}", median(firsts), "ms", MOST_MS[times]["first"], least_to_most(firsts))]
    for name in ("zoom", "pan"):
        taken = [float(one) for each in rounds for one in each[name]]
        spread = f"95th percentile, n={len(taken)}, median {median(taken):.0f}"
        rows.append(Row(f"{name}, {events}", float(np.quantile(taken, 0.95)), "ms", MOST_MS[times][name], spread))
    return rows


def _page(run: Run, folder: Path, chromium: str) -> list[Row]:
    """The run as one file, opened from the disk."""
    page = run.to_html(folder / "run.html")
    taken = [float(_look("open_page.py", page, chromium)["first_ms"]) for _ in range(3)]
    size, what = page.stat().st_size / 2**20, f"page of {run.manifest.counts['events'] / 1e6:.2f} M events"
    return [
        Row(what, size, "MiB", MOST_PAGE_MIB),
        Row(f"{what} painted, from the disk", median(taken), "ms", MOST_PAGE_MS, least_to_most(taken)),
    ]


def _look(name: str, *arguments: object) -> Document:
    return found(program(name, *arguments), PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
