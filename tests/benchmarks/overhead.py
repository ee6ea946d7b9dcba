"""What recording costs a generation by the real small model.

Step by step in one process, where neighbours see the same machine; and whole processes in turn, beside memray. The
steps tell what the hooks cost the engine's own threads. The scribe's work comes on top: where every core is the
engine's, it takes from the engine at most the share of a core that it uses.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np

from tests.benchmarks.processes import PYTHON, Document, found_quietly, program, recorded
from tests.benchmarks.rows import Row, interval_of_medians, least_to_most

MOST_PERCENT = 1.0


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
    rows = []
    for what, engine, options in ways:
        command = recorded(program("steps.py", pairs, engine), folder, *options)
        rows += _paired(what, [found_quietly(command) for _ in range(rounds)])
    return rows


def _paired(what: str, documents: list[Document]) -> list[Row]:
    seconds = np.array([pair for document in documents for pair in document["pairs"]])  # [pair, recorded or plain]
    cost = (seconds[:, 0] / seconds[:, 1] - 1) * 100
    shares = np.array([document["scribe_share"] * 100 for document in documents])
    hooks, scribe = float(np.median(cost)), float(np.median(shares))
    low, high = interval_of_medians(cost, shares)
    spread = f"{low:.2f} to {high:.2f}, 95 %, n={len(cost)} and {len(shares)}"
    return [
        Row(f"cost of the hooks, {what}, in steps", hooks, "%"),
        Row(f"the scribe's work, {what}", scribe, "% of a core", None, least_to_most(list(shares))),
        Row(f"cost of all of it, {what}, at most", hooks + scribe, "%", MOST_PERCENT, spread),
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
                MOST_PERCENT,
                spread,
                "memray",
                anchor,
            )
        )
    return rows


def _rounds(speeds: dict[str, list[float]], way: str) -> list[tuple[float, float]]:
    return list(zip(speeds["plain"], speeds[way], strict=True))
