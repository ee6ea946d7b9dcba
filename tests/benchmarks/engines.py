"""Tokens a second of the reference engine, of vLLM through the workbench, and of vLLM alone, in turn.

On a CUDA host, without the rest: python3 tests/benchmarks/engines.py [MODEL …]
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from statistics import median

import numpy as np

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))  # behind an installed workbench

from tests.benchmarks.processes import OnDemand, program
from tests.benchmarks.rows import Row, interval_of_median, least_to_most, show

QUIETLY = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_USE_FLASHINFER_SAMPLER": "0"}

WAYS = {"reference": "reference", "vllm": "vllm", "plain-vllm": "vllm"}  # and the engine that goes them
CPU = ("cpu", 16, "64MiB", [(1, 64), (16, 64)], (25, 0))
CUDA = ("cuda", 256, "4GiB", [(64, 128), (256, 128)], (5, 41))  # sequences, budget, loads, rounds


def measure(folder: Path, quick: bool, models: tuple[str, ...] = ("smollm2",)) -> list[Row]:
    """The rows of every model and load."""
    import torch

    where, sequences, budget, loads, rounds = CUDA if torch.cuda.is_available() else CPU
    rows: list[Row] = []
    for model in models:
        engines = {
            name: OnDemand(program("speed.py", name, model, sequences, budget), "ready", **QUIETLY)
            for name in dict.fromkeys(WAYS.values())
        }
        for requests, tokens in loads:
            what = f"{model}, {where}, {requests} x {tokens}"
            rows += _compared(what, engines, requests, tokens, *((2, 0) if quick else rounds))
        for engine in engines.values():
            engine.end()
    return rows


def _compared(what: str, engines: dict[str, OnDemand], requests: int, tokens: int, rounds: int, more: int) -> list[Row]:
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    order = random.Random(0)
    for number in range(1 + rounds + more):  # the first of each warms; the last few are for the wrapper's share alone
        ways = tuple(WAYS) if number <= rounds else ("vllm", "plain-vllm")
        for way in order.sample(ways, len(ways)):
            speed = float(engines[WAYS[way]].ask(f"{way} {requests} {tokens}", "tokens_per_s"))
            if number:
                speeds[way].append(speed)
    rows = [
        Row(f"{name}, {what}", median(some), "tokens/s", None, least_to_most(some)) for name, some in speeds.items()
    ]
    plain = speeds["plain-vllm"]
    slower = [alone / own for alone, own in zip(plain, speeds["reference"], strict=False)]
    lost = np.array([(1 - through / alone) * 100 for through, alone in zip(speeds["vllm"], plain, strict=True)])
    low, high = interval_of_median(lost)
    return [
        *rows,
        Row(f"vLLM's tokens/s of the reference engine's, {what}", median(slower), "", 1.0, least_to_most(slower)),
        Row(
            f"lost by the wrapper, {what}",
            float(np.median(lost)),
            "%",
            1.0,
            f"{low:.2f} to {high:.2f}, 95 %, n={len(lost)}",
        ),
    ]


if __name__ == "__main__":
    for each in sys.argv[1:] or ["smollm2"]:
        show(measure(Path(), False, (each,)))
