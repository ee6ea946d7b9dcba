"""The loads that engines are measured under, each in turn; of several GPUs each has its share of the models."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

from tests.benchmarks.processes import Document, OnDemand, program
from tests.benchmarks.rows import Row

ENGINES = {"reference": "reference", "vllm": "vllm", "plain-vllm": "vllm"}  # by the way that one is asked
QUIETLY = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_USE_FLASHINFER_SAMPLER": "0"}

Rounds = dict[str, list[Document]]  # by way: what every round found


@dataclass(frozen=True)
class Loads:
    """What engines are asked on a kind of host."""

    name: str
    sequences: int
    budget: str
    loads: tuple[tuple[int, int], ...]  # requests, and tokens of each
    rounds: int
    turns: int  # of steps that are neighbours
    models: tuple[str, ...]


CPU = Loads("cpu", 16, "64MiB", ((1, 64), (16, 64)), 25, 120, ("smollm2",))
CUDA = Loads("cuda", 256, "4GiB", ((64, 128), (256, 128)), 20, 60, ("smollm2", "qwen3-0.6b"))


class Engines:
    """Those that answer for some ways, with one model on one GPU or on the processor."""

    def __init__(self, ways: tuple[str, ...], model: str, gpu: str, quick: bool) -> None:
        self._ways, self._model, self._quick = ways, model, quick
        self._asked = CUDA if gpu else CPU
        there = QUIETLY | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})
        command = model, self._asked.sequences, self._asked.budget
        self._running = {
            name: OnDemand(program("speed.py", name, *command), "ready", **there)
            for name in dict.fromkeys(ENGINES[way] for way in ways)
        }

    def loads(self) -> Iterator[tuple[str, int, int]]:
        """Gives each load: in words, its requests, and the tokens of each."""
        for requests, tokens in self._asked.loads:
            yield f"{self._model}, {self._asked.name}, {requests} x {tokens}", requests, tokens

    def rounds(self, requests: int, tokens: int) -> Rounds:
        """Gives what every way found in every round, in an order that chance decides; the first of each warms."""
        found: Rounds = {way: [] for way in self._ways}
        order = random.Random(0)
        for number in range(1 + (2 if self._quick else self._asked.rounds)):
            for way in order.sample(self._ways, len(self._ways)):
                document = self._ask(ENGINES[way], way, requests, tokens)
                if number:
                    found[way].append(document)
        return found

    def pairs(self, way: str, requests: int, tokens: int) -> list[list[float]]:
        """Gives the seconds of every pair of neighbouring steps of vLLM: through the workbench, plain."""
        turns = 2 if self._quick else self._asked.turns
        return [pair for _ in range(turns) for pair in self._ask("vllm", way, requests, tokens)["pairs"]]

    def _ask(self, engine: str, *what: object) -> Document:
        found: Document = json.loads(self._running[engine].ask(" ".join(map(str, what)), "found"))
        return found

    def end(self) -> None:
        """Ask nothing more."""
        for one in self._running.values():
            one.end()


def of_every_model(ways: tuple[str, ...], quick: bool, rows_of: Callable[[Engines], Iterator[Row]]) -> Iterator[Row]:
    """Gives the rows of each model's engines as they come."""
    gpus = _gpus()
    models, places = (CUDA if gpus else CPU).models, gpus or [""]
    found: SimpleQueue[Row | None] = SimpleQueue()

    def share(place: int) -> None:
        try:
            for model in models[place :: len(places)]:
                engines = Engines(ways, model, places[place], quick)
                for row in rows_of(engines):
                    found.put(row)
                engines.end()
        finally:
            found.put(None)

    with ThreadPoolExecutor() as pool:
        shares = [pool.submit(share, place) for place in range(len(places))]
        for _ in shares:
            yield from iter(found.get, None)
        for one in shares:
            one.result()


def _gpus() -> list[str]:
    import torch

    gpus = [str(index) for index in range(torch.cuda.device_count())]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",")[: len(gpus)] if gpus and chosen else gpus
