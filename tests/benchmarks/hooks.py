"""What the hooks cost the thread that allocates: plain, preloaded but not recording, and recording."""

from __future__ import annotations

import subprocess
from pathlib import Path

from workbench.kernels import library_path

from tests.benchmarks.processes import PROGRAMS, found, program, recorded
from tests.benchmarks.rows import Row

SMALL, LARGE = 64, 100_000  # bytes
MOST_NS = 2000.0  # of a recorded pair: an event is to cost at most a microsecond


def measure(folder: Path, quick: bool) -> list[Row]:
    """Nanoseconds of an allocation and its free, in C and with a Python stack."""
    rounds = 3 if quick else 15
    native = folder / "pairs"
    subprocess.run(["gcc", "-O2", "-o", str(native), str(PROGRAMS / "pairs.c")], check=True)
    rows = []
    for size in (SMALL, LARGE):
        rows += _ways(f"C, {size} bytes", [str(native), str(size), str(rounds)], folder, size)
    return rows + _ways(f"Python, {LARGE} bytes", program("pairs.py", LARGE, rounds), folder, LARGE)


def _ways(what: str, command: list[str], store: Path, size: int) -> list[Row]:
    plain = found(command)["pair_ns"]
    preloaded = found(command, LD_PRELOAD=str(library_path()))["pair_ns"]
    recording = found(recorded(command, store))["pair_ns"]
    name = f"pair from {what}"
    most = MOST_NS + plain if size == LARGE else None
    return [
        Row(f"{name}: preloaded", preloaded, "ns", None, "", "plain", plain),
        Row(f"{name}: recording", recording, "ns", most, "", "plain", plain),
    ]
