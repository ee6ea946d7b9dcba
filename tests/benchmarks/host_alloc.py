"""Page-locked memory by every arm, on a CUDA host: what it takes, how long, and how fast copies are, each in turn.

python3 tests/benchmarks/host_alloc.py [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))  # behind an installed workbench

from tests.benchmarks.rows import Row, least_to_most, show
from workbench.engines.host import Host
from workbench.launch.programs import record_program
from workbench.mechanisms.host_alloc import why_not
from workbench.mechanisms.host_rounding import ARMS
from workbench.run.store import Store
from workbench.studies.pinned_memory import rows_of

MIB = 1 << 20
SIZES = (65 * MIB, 257 * MIB, 1025 * MIB)
ROUNDS = 5
WAYS = {"to_device_per_s": "to the GPU", "to_host_per_s": "to the host"}
Rounds = dict[str, list[list[dict[str, Any]]]]  # by arm: of each round a row a size


def measure(folder: Path, quick: bool, rounds: int = ROUNDS) -> list[Row]:
    """The rows of every arm that this host has."""
    arms = [arm for arm in ARMS if not why_not(arm, Host.here().gpus)]
    found: Rounds = {arm: [] for arm in arms}
    for _ in range(2 if quick else rounds):
        for arm in arms:
            command = [sys.executable, "-m", "workbench.studies.pinned_program", arm, *map(str, SIZES)]
            found[arm].append(rows_of(record_program(command, store=Store(folder))))
    return [row for place in range(len(SIZES)) for row in _of_size(found, place)]


def _of_size(found: Rounds, place: int) -> list[Row]:
    size = f"{SIZES[place] // MIB} MiB"
    rows: list[Row] = []
    best = {way: max((median(_all(found, arm, place, way)) for arm in found), default=0.0) for way in WAYS}
    for arm in found:
        beyond = [taken - SIZES[place] for taken in _all(found, arm, place, "taken")]
        most = 4096.0 if arm in ("host-alloc", "host-register") else None
        rows.append(Row(f"{arm}, {size}: bytes beyond what is asked", median(beyond), "B", most, least_to_most(beyond)))
        for what in ("allocate", "free"):
            times = [seconds * 1000 for seconds in _all(found, arm, place, f"{what}_s")]
            rows.append(Row(f"{arm}, {size}: to {what}", median(times), "ms", None, least_to_most(times)))
        for way, where in WAYS.items():
            if speeds := [speed / 1e9 for speed in _all(found, arm, place, way)]:
                share = f"{median(speeds) * 1e9 / best[way]:.1%} of the best arm's"
                rows.append(Row(f"{arm}, {size}: copies {where}", median(speeds), "GB/s", None, share))
    return rows


def _all(found: Rounds, arm: str, place: int, name: str) -> list[float]:
    return [rows[place][name] for rows in found[arm] if name in rows[place]]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as store:
        show(measure(Path(store), False, int(sys.argv[1]) if sys.argv[1:] else ROUNDS))
