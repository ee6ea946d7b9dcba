"""What recording costs a generation by the real small model.

Step by step in one process, where neighbours see the same machine; and whole processes in turn, beside memray. The
steps tell what the hooks cost the engine's own threads. Two things come on top. The scribe's work: where every core is
the engine's, it takes from the engine at most the share of a core that it uses. And what the hooks cost by being there:
every request below the threshold goes through them too, which is counted and timed by itself, for no step can do
without. The processes show all of it at once, with all that differs from process to process.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from statistics import median

import numpy as np

from tests.benchmarks.processes import IMPORTING, PROGRAMS, PYTHON, Document, found, found_quietly, program, recorded
from tests.benchmarks.rows import Row, interval_of_medians, least_to_most

MOST_PERCENT = 1.0
SMALL = 64  # bytes, as most requests have


def measure(folder: Path, quick: bool) -> list[Row]:
    """The cost of the hooks alone, of everything, and of whole processes."""
    return [*_steps(folder, quick), *_processes(folder, quick)]


def _steps(folder: Path, quick: bool) -> list[Row]:
    rounds, pairs = (1, 60) if quick else (3, 500)
    ways: list[tuple[str, str, list[str]]] = [
        ("vllm", "vllm", []),
        ("reference", "reference", []),
        ("reference, every block", "reference", ["--blocks", "all"]),
    ]
    pair_ns = _passed_on_ns(folder, rounds)
    rows = [Row("a request below the threshold and its free", pair_ns, "ns more")]
    for what, engine, options in ways:
        command = recorded(program("steps.py", pairs, engine), folder, *options)
        passing = _passing(folder, engine, pairs, pair_ns)
        rows += _paired(what, [found_quietly(command) for _ in range(rounds)], passing)
    return rows


def _passed_on_ns(folder: Path, rounds: int) -> float:
    """What the hooks add to a request that they only pass on, and to its free."""
    native = folder / "pairs"
    subprocess.run(["gcc", "-O2", "-o", str(native), str(PROGRAMS / "pairs.c")], check=True)
    command = [str(native), str(SMALL), "15"]
    turns = [(found(recorded(command, folder))["pair_ns"], found(command)["pair_ns"]) for _ in range(rounds)]
    return float(np.median([recording - plain for recording, plain in turns]))


def _passing(folder: Path, engine: str, steps: int, pair_ns: float) -> float:
    """What that is of a step, in percent."""
    counting = folder / "calls.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(counting), str(PROGRAMS / "calls.c")], check=True)
    document = found(program("calls.py", steps, engine), LD_PRELOAD=str(counting), **IMPORTING)
    return float(document["calls"] / 2 * pair_ns / 1e9 / document["seconds"] * 100)


def _paired(what: str, documents: list[Document], passing: float) -> list[Row]:
    seconds = np.array([pair for document in documents for pair in document["pairs"]])  # [pair, recorded or plain]
    cost = (seconds[:, 0] / seconds[:, 1] - 1) * 100
    shares = np.array([document["scribe_share"] * 100 for document in documents])
    hooks, scribe = float(np.median(cost)), float(np.median(shares))
    low, high = (bound + passing for bound in interval_of_medians(cost, shares))
    spread = f"{low:.2f} to {high:.2f}, 95 %, n={len(cost)} and {len(shares)}"
    return [
        Row(f"cost of the hooks, {what}, in steps", hooks, "%"),
        Row(f"what they pass on, {what}", passing, "%"),
        Row(f"the scribe's work, {what}", scribe, "% of a core", None, least_to_most(list(shares))),
        Row(f"cost of all of it, {what}, at most", hooks + passing + scribe, "%", MOST_PERCENT, spread),
    ]


def _processes(folder: Path, quick: bool) -> list[Row]:
    rounds, tokens = (1, 32) if quick else (3, 256)
    command = program("generate.py", tokens, "reference")
    traced = [PYTHON, "-m", "memray", "run", "--quiet", "--force", "--follow-fork", "-o", str(folder / "memray.bin")]
    ways = {
        "plain": command,
        "large blocks": recorded(command, folder),
        "all blocks": recorded(command, folder, "--blocks", "all"),
        "memray": [*traced, *command[1:]],
    }
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    others: list[float] = []
    for _ in range(rounds):
        for way, line in ways.items():
            document = found_quietly(line)
            speeds[way].append(document["tokens_per_s"])
            others.append(document["others"])
    costs = {way: [(plain / speed - 1) * 100 for plain, speed in _rounds(speeds, way)] for way in ways}
    rows = [
        Row("tokens/s, not recorded", median(speeds["plain"]), "tokens/s", None, least_to_most(speeds["plain"])),
        Row("others' share meanwhile, at worst", max(others) * 100, "% of the machine"),
    ]
    for way in ("large blocks", "all blocks"):
        spread = least_to_most(costs[way])
        anchor = median(costs["memray"])
        rows.append(
            Row(
                f"cost of all of it, {way}, in processes",
                median(costs[way]),
                "%",
                None,
                spread,
                "memray",
                anchor,
            )
        )
    return rows


def _rounds(speeds: dict[str, list[float]], way: str) -> list[tuple[float, float]]:
    return list(zip(speeds["plain"], speeds[way], strict=True))
