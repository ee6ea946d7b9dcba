"""How long a recording takes to finish, to open and to find the peak of; and whether that grows with it or faster."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from statistics import median

from tests.benchmarks import disk, material
from tests.benchmarks.processes import PYTHON, Document, found, program
from tests.benchmarks.rows import Row, least_to_most
from workbench.run.manifest import Manifest

TIMES = 10
MOST_GIB = 4.0
TOUCHED_GIB = 2  # more than any of the programs takes
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
        for command in (program("seal.py", run), program("read.py", run)):
            touch_memory()
            _add(values, found(command))
        shutil.rmtree(run)
    return values


def touch_memory() -> None:
    """Have the host give this machine its memory now, where it is a virtual one.

    A page that was not in use for some seconds costs such a machine up to 12 us at its first touch, a hundred times the
    kernel's own work for it. Without this, ten million events would be held to whatever the host did meanwhile.
    In a process of its own, because a child's most memory begins with its parent's.
    """
    subprocess.run([PYTHON, "-c", f"import numpy; numpy.ones({TOUCHED_GIB} << 30, numpy.uint8)"], check=True)


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
