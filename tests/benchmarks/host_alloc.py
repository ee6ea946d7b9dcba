"""Page-locked memory by every arm: what it takes, how long, and how fast copies are, each in turn."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

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


def measure(folder: Path, quick: bool) -> list[Row]:
    """The rows of every arm that this host has: the study's own runs."""
    outcomes = do(study(), 2 if quick else ROUNDS, Store(folder), lambda _: None).outcomes
    found = {one.variant.name: [rows_of(run) for run in one.runs] for one in outcomes if one.runs and one.where == HERE}
    return [row for place in range(len(SIZES)) for arm in found for row in _rows(found, arm, place)]


def _rows(found: Rounds, arm: str, place: int) -> list[Row]:
    what = f"{arm}, {SIZES[place] // MIB} MiB"
    beyond = [taken - SIZES[place] for taken in _all(found, arm, place, "taken")]
    most = PAGE if arm in EXACT else None
    rows = [Row(f"{what}: bytes beyond what is asked", median(beyond), "B", most, least_to_most(beyond))]
    for doing in ("allocate", "free"):
        taken, base = ([s * 1000 for s in _all(found, each, place, f"{doing}_s")] for each in (arm, BASE))
        anchor = ("", None) if arm == BASE else (BASE, median(base))
        most = median(base) if arm in EXACT and doing == "allocate" else None
        rows.append(Row(f"{what}: to {doing}", median(taken), "ms", most, least_to_most(taken), *anchor))
    return rows + [_copies(found, arm, place, way) for way in WAYS if _all(found, arm, place, way)]


def _copies(found: Rounds, arm: str, place: int, way: str) -> Row:
    """The time of one copy of all of it, beside the arm's that copies fastest."""
    speeds = _all(found, arm, place, way)
    ms, best = SIZES[place] / median(speeds) * 1000, SIZES[place] / _fastest(found, place, way) * 1000
    most = best / LEAST_SHARE if arm in EXACT else None
    spread = f"{least_to_most([speed / 1e9 for speed in speeds])} GB/s"
    what = f"{arm}, {SIZES[place] // MIB} MiB: a copy {WAYS[way]}"
    return Row(what, ms, "ms", most, spread, "the fastest arm", best)


def _fastest(found: Rounds, place: int, way: str) -> float:
    return max(median(speeds) for arm in found if (speeds := _all(found, arm, place, way)))


def _all(found: Rounds, arm: str, place: int, name: str) -> list[float]:
    return [rows[place][name] for rows in found[arm] if name in rows[place]]
