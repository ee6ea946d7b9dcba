"""What recording costs vLLM on a GPU: by neighbouring windows of its steps, and by whole generations in turn."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import numpy as np

from tests.benchmarks.processes import OnDemand, gpu_program, recorded
from tests.benchmarks.rows import Numbers, Row, interval_of_medians
from workbench.config.models import resolve

MODEL = "smollm2"
MOST_PERCENT = 1.0
RECORDED: dict[str, list[str]] = {"recorded": [], "without stacks": ["--stacks", "none"]}
Speeds = dict[str, list[float]]  # tokens/s, by whether the round was `on`, recorded where the process is, or `off`


def measure(folder: Path, quick: bool) -> list[Row]:
    """By steps, which tells more; then by whole generations, which is what users see."""
    return [*_steps(folder, 2 if quick else 150), *_generations(folder, 2 if quick else 60)]


def _vllm(folder: Path, way: str) -> OnDemand:
    """A vLLM that generates on demand."""
    command = gpu_program("vllm_generation.py", "nccl-lazy", resolve(MODEL), "--on-demand")
    if way in RECORDED:
        command = recorded(command, folder, *RECORDED[way])
    return OnDemand(command, "{", VLLM_LOGGING_LEVEL="WARNING")


def _steps(folder: Path, rounds: int) -> list[Row]:
    rows = []
    for way in RECORDED:
        one = _vllm(folder, way)
        pairs = np.array([pair for _ in range(rounds) for pair in json.loads(one.ask("steps", "pairs"))])
        one.end()
        cost = (pairs[:, 0] / pairs[:, 1] - 1) * 100  # [window, recorded or not]
        low, high = interval_of_medians(cost)
        spread = f"{low:.2f} to {high:.2f}, 95 %, n={len(cost)}"
        rows.append(Row(f"cost of recording vLLM, {way}, in steps", float(np.median(cost)), "%", MOST_PERCENT, spread))
    return rows


def _generations(folder: Path, rounds: int) -> list[Row]:
    """Processes live side by side and generate in turn, so that all see the same machine.

    Two processes of one kind differ by some percent, so each also does rounds that are not recorded.
    """
    engines = {way: _vllm(folder, way) for way in ("plain", *RECORDED)}
    speeds: dict[str, Speeds] = {way: {"on": [], "off": []} for way in engines}
    for number in range(rounds):
        for way, one in engines.items():
            for order in ("on", "off") if number % 2 else ("off", "on"):
                speeds[way][order].append(float(one.ask(order, "tokens_per_s")))
    for one in engines.values():
        one.end()
    nothing = float(np.median(_costs(speeds["plain"])))
    return [_row(way, speeds[way], nothing) for way in RECORDED]


def _row(way: str, speeds: Speeds, nothing: float) -> Row:
    costs = _costs(speeds)
    low, high = interval_of_medians(costs)
    spread = f"{low:.2f} to {high:.2f}, 95 %, n={len(costs)}, {median(speeds['off']):.0f} tokens/s"
    what = f"cost of recording vLLM, {way}, in generations"
    return Row(what, float(np.median(costs)), "%", MOST_PERCENT, spread, "a plain process, of itself", nothing)


def _costs(speeds: Speeds) -> Numbers:
    """Of every round, in percent of the time of the same process's round beside it that was not recorded."""
    off, on = (np.array(speeds[order]) for order in ("off", "on"))
    costs: Numbers = (off / on - 1) * 100
    return costs
