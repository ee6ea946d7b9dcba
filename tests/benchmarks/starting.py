"""How long the command line takes to start."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from statistics import median

from tests.benchmarks import material
from tests.benchmarks.processes import PYTHON
from tests.benchmarks.rows import Row, least_to_most

MOST_MS = 300.0


def measure(folder: Path, quick: bool) -> list[Row]:
    """Milliseconds of two commands, beside memray's."""
    material.make(folder, quick)  # a store with a run in it
    scripts = Path(PYTHON).parent
    store = ["--store", str(folder)]
    commands = {
        "workbench --help": [str(scripts / "workbench"), "--help"],
        "workbench runs --json": [str(scripts / "workbench"), "runs", "--json", *store],
        "memray --help": [str(scripts / "memray"), "--help"],
    }
    rounds = 3 if quick else 10
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            took[name].append(_ms(command))
    anchor = median(took.pop("memray --help"))
    return [
        Row(name, median(ms), "ms", MOST_MS, least_to_most(ms), "memray --help", anchor) for name, ms in took.items()
    ]


def _ms(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return (time.perf_counter() - start) * 1000
