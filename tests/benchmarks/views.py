"""How soon a run is painted in a browser, and two, and how soon after a zoom or a pan; what its page takes."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.benchmarks import disk, material
from tests.benchmarks.memory_viz import memory_viz
from tests.benchmarks.processes import IMPORTING, Document, found, found_quietly, program, recorded
from tests.benchmarks.reading import touch_memory
from tests.benchmarks.rows import Row, interval_of_medians, least_to_most
from tests.ui.chromium import MISSING, chromium
from workbench.run.interchange import read_snapshot
from workbench.run.manifest import IMPORTED, Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run, write_run

TIMES = 10
MOST_MS = {1: {"first": 1000, "zoom": 50, "pan": 50}, TIMES: {"first": 3000, "zoom": 100, "pan": 100}}
MOST_COMPARED_MS = 1000.0
STEPS = 16  # of a window: neighbours see the same machine
MOST_LIVE_PERCENT, MOST_KERNEL_PERCENT = 1.0, 5.0
MOST_PAGE_MIB, MOST_PAGE_MS = 2.0, 1000.0


def measure(folder: Path, quick: bool) -> list[Row]:
    """The events of a generation as PyTorch's snapshot has them, drawn by us and by PyTorch; and ten times as many."""
    browser = chromium()
    if browser is None:
        raise SystemExit(MISSING)
    made = material.make(folder, quick)
    disk.export(made)
    once = _kept(folder / "views-1", read_snapshot(made.snapshot).tables)
    events = once.table("events")
    twice = _kept(folder / "views-2", {"events": _larger(events)}, "twice the bytes")
    often = _kept(folder / f"views-{TIMES}", {"events": _often(events)})
    viewer = memory_viz(made.snapshot, folder)
    rows = _looked(once, 1, browser, quick, viewer.look(browser) if viewer else {})
    rows += _compared(once, twice, browser, quick)
    rows += [*_looked(often, TIMES, browser, quick), *_page(often, folder, browser)]
    return [*rows, *_live(folder, quick)]


def _kept(folder: Path, tables: dict[str, pa.Table], name: str = "generation") -> Run:
    manifest = Manifest.new(name, VERSION)
    manifest.status = IMPORTED
    return write_run(folder, manifest, tables)


def _larger(events: pa.Table) -> pa.Table:
    """The same events of twice the bytes: another run to compare them with."""
    place = events.schema.get_field_index("bytes")
    return events.set_column(place, events.field(place), pc.multiply(events["bytes"], 2))


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


def _looked(run: Run, times: int, browser: str, quick: bool, theirs: Document | None = None) -> list[Row]:
    """`theirs` is what PyTorch's viewer took for the same events."""
    rounds = [_look("look.py", run.folder, browser) for _ in range(1 if quick else 3)]
    events = _millions(run)
    firsts = [float(each["first_ms"]) for each in rounds]
    spread = least_to_most(firsts)
    anchor, first = (f"MemoryViz, {theirs['says'].lower()}", float(theirs["first_ms"])) if theirs else ("", None)
    rows = [Row(f"first painting, {events}", median(firsts), "ms", MOST_MS[times]["first"], spread, anchor, first)]
    for name in ("zoom", "pan"):
        taken, told = _slow([one for each in rounds for one in each[name]])
        anchor, slow = ("", None)
        if theirs:
            slow, anchor = _slow(theirs[name])
            anchor = f"MemoryViz, {anchor}"
        rows.append(Row(f"{name}, {events}", taken, "ms", MOST_MS[times][name], told, anchor, slow))
    return rows


def _slow(taken: list[float]) -> tuple[float, str]:
    """The 95th percentile, and what it is of."""
    return float(np.quantile(taken, 0.95)), f"95th percentile, n={len(taken)}, median {median(taken):.0f}"


def _compared(one: Run, other: Run, browser: str, quick: bool) -> list[Row]:
    rounds = [_look("look_at_two.py", one.folder, other.folder, browser) for _ in range(1 if quick else 5)]
    rows = []
    for what, name in (("painted over each other", "first_ms"), ("differences ranked", "ranked_ms")):
        taken = [float(each[name]) for each in rounds]
        rows.append(
            Row(f"two runs of {_millions(one)}, {what}", median(taken), "ms", MOST_COMPARED_MS, least_to_most(taken))
        )
    return rows


def _millions(run: Run) -> str:
    return f"{run.manifest.counts['events'] / 1e6:.2f} M events"


def _page(run: Run, folder: Path, browser: str) -> list[Row]:
    """The run as one file, opened from the disk."""
    page = run.to_html(folder / "run.html")
    taken = [float(_look("open_page.py", page, browser)["first_ms"]) for _ in range(3)]
    size, what = page.stat().st_size / 2**20, f"page of {_millions(run)}"
    return [
        Row(what, size, "MiB", MOST_PAGE_MIB),
        Row(f"{what} painted, from the disk", median(taken), "ms", MOST_PAGE_MS, least_to_most(taken)),
    ]


def _live(folder: Path, quick: bool) -> list[Row]:
    """What a live chart of a generation takes: of the engine, and of the kernel that draws it."""
    command = recorded(program("chart.py", 4 if quick else 150, STEPS, "vllm"), folder)
    documents = [found_quietly(command, **IMPORTING) for _ in range(1 if quick else 8)]
    seconds = np.array([pair for document in documents for pair in document["pairs"]])  # [pair, with or without]
    cost = (seconds[:, 0] / seconds[:, 1] - 1) * 100
    low, high = interval_of_medians(cost)
    names = ("kernel_share", "scribe_share", "scribe_share_alone", "looks_per_s", "messages_per_s")
    kernel, scribe, alone, looks, messages = (median([document[name] for document in documents]) for name in names)
    often = f"{looks:.1f} looks a second, {messages:.1f} of them told"
    spread = f"{low:.2f} to {high:.2f}, 95 %, n={len(cost)}"
    return [
        Row("tokens/s lost to a live chart, vllm", float(np.median(cost)), "%", MOST_LIVE_PERCENT, spread),
        Row("kernel, live chart", kernel * 100, "% of a core", MOST_KERNEL_PERCENT, often),
        Row("scribe, live chart", scribe * 100, "% of a core", None, "", "without the chart", alone * 100),
    ]


def _look(name: str, *arguments: object) -> Document:
    touch_memory()
    return found(program(name, *arguments), **IMPORTING)
