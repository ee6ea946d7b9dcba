"""What the wrapper takes of vLLM's time: in its steps, and around them. Whole rounds differ by more than that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from tests.benchmarks.loads import Engines, Rounds, of_every_model
from tests.benchmarks.rows import Numbers, Row, interval_of_medians

WAYS = ("vllm", "plain-vllm")


def measure(folder: Path, quick: bool) -> Iterator[Row]:
    """The rows of every model and load."""
    return of_every_model(WAYS, quick, _rows)


def _rows(engines: Engines) -> Iterator[Row]:
    for what, requests, tokens in engines.loads():
        around = _around(engines.rounds(requests, tokens), requests * tokens)
        steps, streamed = (_taken(engines.pairs(way, requests, tokens)) for way in ("steps", "streamed"))
        yield _row(f"lost by the wrapper, in steps, {what}", steps)
        yield _row(f"lost by the wrapper, before and after them, {what}", around)
        low, high = interval_of_medians(steps, around)
        spread = f"{low:.2f} to {high:.2f}, 95 %, n={len(steps)} and {len(around)}"
        both = float(np.median(steps) + np.median(around))
        yield Row(f"lost by the wrapper, {what}", both, "%", 1.0, spread)
        yield _row(f"taken by the wrapper to hand on every token as it comes, in steps, {what}", streamed)


def _taken(pairs: list[list[float]]) -> Numbers:
    """Of each pair of neighbouring steps, in percent."""
    ours, plain = np.array(pairs).T
    taken: Numbers = (ours / plain - 1) * 100
    return taken


def _around(found: Rounds, tokens: int) -> Numbers:
    """Before the first step and after the last of each round, in percent of the whole."""
    whole = tokens / median(document["tokens_per_s"] for document in found["plain-vllm"])
    ours, plain = (np.array([one["before_s"] + one["after_s"] for one in found[way]]) for way in WAYS)
    around: Numbers = (ours - plain) / whole * 100
    return around


def _row(what: str, lost: Numbers) -> Row:
    low, high = interval_of_medians(lost)
    return Row(what, float(np.median(lost)), "%", None, f"{low:.2f} to {high:.2f}, 95 %")
