"""Tokens a second of the reference engine, of vLLM through the workbench, and of vLLM alone, in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.benchmarks.loads import ENGINES, Engines, of_every_model
from tests.benchmarks.rows import Row, least_to_most


def measure(folder: Path, quick: bool) -> Iterator[Row]:
    """The rows of every model and load."""
    return of_every_model(tuple(ENGINES), quick, _rows)


def _rows(engines: Engines) -> Iterator[Row]:
    for what, requests, tokens in engines.loads():
        found = engines.rounds(requests, tokens)
        speeds = {way: [document["tokens_per_s"] for document in documents] for way, documents in found.items()}
        for way, some in speeds.items():
            yield Row(f"{way}, {what}", median(some), "tokens/s", None, least_to_most(some))
        slower = [alone / mine for alone, mine in zip(speeds["plain-vllm"], speeds["reference"], strict=True)]
        name = f"vLLM's tokens/s of the reference engine's, {what}"
        yield Row(name, median(slower), "", 1.0, least_to_most(slower))
