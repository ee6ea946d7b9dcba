"""Tokens a second of the reference engine, of vLLM through the workbench, and of vLLM alone, in turn.

Some of it: python3 tests/benchmarks/engines.py [--wrapper] [MODEL …]. With --wrapper only vLLM; nothing is kept.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from statistics import median

import numpy as np

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))  # behind an installed workbench

from tests.benchmarks.processes import OnDemand, program
from tests.benchmarks.rows import Numbers, Row, interval_of_medians, least_to_most, show

QUIETLY = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_USE_FLASHINFER_SAMPLER": "0"}

WAYS = {"reference": "reference", "vllm": "vllm", "plain-vllm": "vllm"}  # and the engine that goes them
# Sequences, budget, loads, rounds of answers and of steps; models.
CPU = ("cpu", 16, "64MiB", [(1, 64), (16, 64)], (25, 120), ("smollm2",))
CUDA = ("cuda", 256, "4GiB", [(64, 128), (256, 128)], (20, 60), ("smollm2", "qwen3-0.6b"))

Rounds = dict[str, list[dict[str, float]]]


def measure(
    folder: Path, quick: bool, models: tuple[str, ...] = (), ways: tuple[str, ...] = tuple(WAYS)
) -> Iterator[Row]:
    """The rows of every model and load; where there are several GPUs, each has its share of the models."""
    import torch

    gpus = [str(index) for index in range(torch.cuda.device_count())]
    if gpus and (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")):
        gpus = chosen.split(",")[: len(gpus)]
    models, places = models or (CUDA if gpus else CPU)[-1], gpus or [""]
    found: SimpleQueue[Row | None] = SimpleQueue()

    def share(place: int) -> None:
        try:
            for model in models[place :: len(places)]:
                for row in _rows(model, places[place], quick, ways):
                    found.put(row)
        finally:
            found.put(None)

    with ThreadPoolExecutor() as pool:
        shares = [pool.submit(share, place) for place in range(len(places))]
        for _ in shares:
            yield from iter(found.get, None)
        for one in shares:
            one.result()


def _rows(model: str, gpu: str, quick: bool, ways: tuple[str, ...]) -> Iterator[Row]:
    where, sequences, budget, loads, (rounds, turns), _ = CUDA if gpu else CPU
    rounds, turns = (2, 2) if quick else (rounds, turns)
    there = QUIETLY | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})
    engines = {
        name: OnDemand(program("speed.py", name, model, sequences, budget), "ready", **there)
        for name in dict.fromkeys(WAYS[way] for way in ways)
    }
    for requests, tokens in loads:
        what, load = f"{model}, {where}, {requests} x {tokens}", f"{requests} {tokens}"
        found = _rounds(engines, load, rounds, ways)
        yield from _speeds(what, found)
        pairs, streamed = (_pairs(engines["vllm"], f"{way} {load}", turns) for way in ("steps", "streamed"))
        yield from _lost(what, requests * tokens, found, pairs)
        lost = (streamed[:, 0] / streamed[:, 1] - 1) * 100
        name = f"taken by the wrapper to hand on every token as it comes, in steps, {what}"
        yield Row(name, float(np.median(lost)), "%", None, _interval(lost))
    for engine in engines.values():
        engine.end()


def _pairs(engine: OnDemand, what: str, turns: int) -> Numbers:
    documents = [json.loads(engine.ask(what, "found")) for _ in range(turns)]
    return np.array([pair for document in documents for pair in document["pairs"]])


def _rounds(engines: dict[str, OnDemand], load: str, rounds: int, ways: tuple[str, ...]) -> Rounds:
    """What every way found in every round, in an order that chance decides; the first round of each warms."""
    found: Rounds = {way: [] for way in ways}
    order = random.Random(0)
    for number in range(1 + rounds):
        for way in order.sample(ways, len(ways)):
            document = json.loads(engines[WAYS[way]].ask(f"{way} {load}", "found"))
            if number:
                found[way].append(document)
    return found


def _speeds(what: str, found: Rounds) -> list[Row]:
    speeds = {way: [document["tokens_per_s"] for document in documents] for way, documents in found.items()}
    rows = [
        Row(f"{name}, {what}", median(some), "tokens/s", None, least_to_most(some)) for name, some in speeds.items()
    ]
    if own := speeds.get("reference"):
        slower = [alone / mine for alone, mine in zip(speeds["plain-vllm"], own, strict=True)]
        name = f"vLLM's tokens/s of the reference engine's, {what}"
        rows.append(Row(name, median(slower), "", 1.0, least_to_most(slower)))
    return rows


def _lost(what: str, tokens: int, found: Rounds, pairs: Numbers) -> list[Row]:
    """What the wrapper takes of vLLM's time: in its steps, and around them. Whole rounds differ by more than that."""
    whole = tokens / median(document["tokens_per_s"] for document in found["plain-vllm"])
    ours, plain = (
        np.array([document["before_s"] + document["after_s"] for document in found[way]])
        for way in ("vllm", "plain-vllm")
    )
    around = (ours - plain) / whole * 100
    steps = (pairs[:, 0] / pairs[:, 1] - 1) * 100
    low, high = interval_of_medians(steps, around)
    spread = f"{low:.2f} to {high:.2f}, 95 %, n={len(steps)} and {len(around)}"
    parts = {"in steps": steps, "before and after them": around}
    return [
        *(
            Row(f"lost by the wrapper, {part}, {what}", float(np.median(some)), "%", None, _interval(some))
            for part, some in parts.items()
        ),
        Row(f"lost by the wrapper, {what}", float(np.median(steps) + np.median(around)), "%", 1.0, spread),
    ]


def _interval(values: Numbers) -> str:
    low, high = interval_of_medians(values)
    return f"{low:.2f} to {high:.2f}, 95 %"


if __name__ == "__main__":
    chosen = tuple(argument for argument in sys.argv[1:] if argument != "--wrapper")
    show(list(measure(Path(), False, chosen, ("vllm", "plain-vllm") if "--wrapper" in sys.argv else tuple(WAYS))))
