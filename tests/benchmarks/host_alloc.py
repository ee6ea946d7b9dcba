"""Page-locked memory by every arm: what it takes, how long, and how fast copies are, each in turn."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.processes import program
from tests.benchmarks.rows import Row, least_to_most
from workbench.run.store import Store
from workbench.studies.base import HERE, do
from workbench.studies.pinned_memory import SIZES, rows_of, study

MIB = 1 << 20
ROUNDS = 5
BASE = "pinned-pool"
EXACT = ("host-alloc", "host-register")
PAGE = 4096.0
LEAST_SHARE = 0.98  # of the best arm's speed of copies
WAYS = {"to_device_per_s": "to the GPU", "to_host_per_s": "to the host"}
Rounds = dict[str, list[list[dict[str, Any]]]]  # by arm: of each round a row a size
Copies = dict[str, dict[str, list[float]]]  # by arm and way: bytes a second


def measure(folder: Path, quick: bool) -> Iterator[Row]:
    """The rows of every arm that this host has: of the study's own runs, then of copies beside each other."""
    outcomes = do(study(), 2 if quick else ROUNDS, Store(folder), lambda _: None).outcomes
    runs = {one.variant.name: [rows_of(run) for run in one.runs] for one in outcomes if one.runs and one.where == HERE}
    sizes = [row["asked"] for row in runs[BASE][0]]  # those that this host has room for
    for place in range(len(sizes)):
        for arm in runs:
            yield from _memory(runs, arm, place)
    copies: list[Copies] = json.loads(subprocess.check_output(program("pinned_copies.py", *sizes)))
    for size, of_size in zip(sizes, copies, strict=True):
        for arm in runs:
            yield from _copies(of_size, arm, size)


def _memory(runs: Rounds, arm: str, place: int) -> list[Row]:
    what = f"{arm}, {SIZES[place] // MIB} MiB"
    beyond = [taken - SIZES[place] for taken in _all(runs, arm, place, "taken")]
    most = PAGE if arm in EXACT else None
    rows = [Row(f"{what}: bytes beyond what is asked", median(beyond), "B", most, least_to_most(beyond))]
    for doing in ("allocate", "free"):
        taken, base = ([s * 1000 for s in _all(runs, each, place, f"{doing}_s")] for each in (arm, BASE))
        anchor = ("", None) if arm == BASE else (BASE, median(base))
        most = median(base) if arm in EXACT and doing == "allocate" else None
        rows.append(Row(f"{what}: to {doing}", median(taken), "ms", most, least_to_most(taken), *anchor))
    return rows


def _copies(copies: Copies, arm: str, size: int) -> list[Row]:
    """The time of one copy each way, beside that of the arm which copies fastest."""
    rows = []
    for way, speeds in copies.get(arm, {}).items():
        ms, best = (
            size / speed * 1000 for speed in (median(speeds), max(median(each[way]) for each in copies.values()))
        )
        most = best / LEAST_SHARE if arm in EXACT else None
        spread = f"{least_to_most([speed / 1e9 for speed in speeds])}, GB/s"
        what = f"{arm}, {size // MIB} MiB: a copy {WAYS[way]}"
        rows.append(Row(what, ms, "ms", most, spread, "the fastest arm", best))
    return rows


def _all(runs: Rounds, arm: str, place: int, name: str) -> list[float]:
    return [rows[place][name] for rows in runs[arm]]
