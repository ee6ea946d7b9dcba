"""How long a recording takes to finish, to open and to find the peak of; and whether that grows with it or faster."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median

from tests.benchmarks import disk, material
from tests.benchmarks.processes import Document, found, program
from tests.benchmarks.rows import Row, least_to_most
from workbench.run.manifest import Manifest

TIMES = 10
MOST_GIB = 4.0
MOST_GROWTH = 1.25  # of a number that grows with the events; 1: exactly
WHAT = {"seal_s": "finish", "open_s": "open", "peak_s": "Timeline.peak"}
MOST_S = {"seal_s": 1.0, "open_s": 0.1, "peak_s": 0.05}  # of a million events


def measure(folder: Path, quick: bool) -> list[Row]:
    """Each for the recording as it is and for ten of it, beside a snapshot of the same events."""
    made = material.make(folder, quick)
    disk.export(made)
    events = Manifest.read(made.run).counts["events"]
    rounds = 1 if quick else 5
    once, often = (_measured(folder, made, times, rounds) for times in (1, TIMES))
    snapshot = found(program("load.py", made.snapshot))
    return [
        *(_row(name, once, events, snapshot[name]) for name in WHAT),
        *(_row(name, often, events * TIMES, None) for name in WHAT),
        *(_growth(name, once, often) for name in WHAT),
        *(_memory(name, values, count) for values, count in ((once, events), (often, events * TIMES)) for name in _RSS),
    ]


_RSS = {"seal_rss": "finish", "read_rss": "open and peak"}


def _measured(folder: Path, made: material.Material, times: int, rounds: int) -> dict[str, list[float]]:
    """Every number of the recording, that many times over; each of the rounds in fresh processes."""
    values: dict[str, list[float]] = {name: [] for name in (*WHAT, *_RSS)}
    for turn in range(rounds):
        run = material.unsealed(made, folder / f"unsealed-{times}-{turn}", times)
        for document in (found(program("seal.py", run)), found(program("read.py", run))):
            _add(values, document)
        shutil.rmtree(run)
    return values


def _add(values: dict[str, list[float]], document: Document) -> None:
    for name, value in document.items():
        values[name].append(value)


def _row(name: str, values: dict[str, list[float]], events: int, snapshot: float | None) -> Row:
    most = MOST_S[name] * 1000 * events / 1e6
    ms = [value * 1000 for value in values[name]]
    anchor = "" if snapshot is None else _ANCHORS[name]
    beside = None if snapshot is None else snapshot * 1000
    return Row(f"{WHAT[name]}, {_millions(events)}", median(ms), "ms", most, least_to_most(ms), anchor, beside)


_ANCHORS = {
    "seal_s": "pickle.dump of their snapshot",
    "open_s": "pickle.load of their snapshot",
    "peak_s": "a loop over the snapshot's entries",
}


def _millions(events: int) -> str:
    return f"{events / 1e6:.2f} M events"


def _growth(name: str, once: dict[str, list[float]], often: dict[str, list[float]]) -> Row:
    """How much longer it takes for ten times the events, a tenth of that."""
    return Row(
        f"{WHAT[name]}, ten times as many", median(often[name]) / median(once[name]) / TIMES, "of linear", MOST_GROWTH
    )


def _memory(name: str, values: dict[str, list[float]], events: int) -> Row:
    gib = max(values[name]) / 2**30
    return Row(f"memory, {_RSS[name]}, {_millions(events)}", gib, "GiB", MOST_GIB)
