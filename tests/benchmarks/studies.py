"""What a study costs beyond what it studies: each of its processes beside the same one alone, not recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.processes import program
from tests.benchmarks.rows import Row, least_to_most
from workbench.engines.host import Host
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.studies import STUDIES
from workbench.studies.base import Variant, do

NAMES = ("process-group", "pinned-memory")
LEAST_RUNS = 12  # of a study: starts of vLLM alone differ by as much as is looked for
MOST_S = 2.0  # a run of a variant
WARM_UPS = 2  # vLLM compiles at its first start, and some of it again at the second, which finds the rest compiled


Seconds = dict[str, float]  # of each part of a process: until its first phase, each phase, from its last one on


@dataclass(frozen=True)
class Pair:
    """Seconds of a run in the study, and of the same process alone; also of each part, where it has phases."""

    inside: float
    alone: float
    parts: dict[str, tuple[float, float]]

    @property
    def beyond(self) -> float:
        """What the study takes of it."""
        return self.inside - self.alone

    def __str__(self) -> str:
        more = {part: inside - alone for part, (inside, alone) in self.parts.items()}
        parts = "".join(f", {seconds:.2f} more in {part}" for part, seconds in more.items())
        elsewhere = f"; {self.beyond - sum(more.values()):.2f} elsewhere" if more else ""
        return f"{self.inside:.2f} s, alone {self.alone:.2f} s{parts}{elsewhere}"


Pairs = dict[str, list[Pair]]  # by variant


def measure(folder: Path, quick: bool) -> Iterator[Row]:
    """The rows of every study whose variants this host has, some of them at least."""
    for name in NAMES:
        yield from _rows(name, folder, quick)


def _rows(name: str, folder: Path, quick: bool) -> list[Row]:
    study = STUDIES[name]()
    here = [variant for variant in study.variants if variant.why_not() is None and _is_told(variant)]
    for first in {_program_of(variant): variant for variant in reversed(here)}.values():
        for _ in range(1 if quick else WARM_UPS):
            first.start("warm-up", Store(folder))
    pairs: Pairs = defaultdict(list)
    timed = tuple(_timed(variant, pairs) for variant in here)
    repeats = 1 if quick else -(-LEAST_RUNS // len(here))
    start = time.perf_counter()
    document = do(replace(study, variants=timed), repeats, Store(folder), lambda _: None).document()
    whole = time.perf_counter() - start
    if failed := [why for variant in document["variants"] for why in variant["failures"]]:
        raise SystemExit("; ".join(failed))
    runs = [pair for of_variant in pairs.values() for pair in of_variant]
    beyond = (whole - 2 * sum(pair.alone for pair in runs)) / len(runs)
    return [
        *(_row(name, variant, of_variant) for variant, of_variant in pairs.items()),
        Row(f"study {name}: a run, beyond the same process alone", beyond, "s", MOST_S, _of(runs)),
    ]


def _program_of(variant: Variant) -> str:
    return variant.name.partition("-")[0]


def _is_told(variant: Variant) -> bool:
    """On a CPU vLLM compiles anew at each start, for a minute or more, and that varies by more than is asked for."""
    return bool(Host.here().gpus) or not variant.name.startswith("vllm-")


def _timed(variant: Variant, pairs: Pairs) -> Variant:
    """The variant, beside whose every run is the same process alone, so that both see the same machine.

    It comes after the first run, which says what it is, before the second one, and so on in turn.
    """
    runs: list[Run] = []

    def start(name: str, store: Store | None) -> Run:
        earlier = _process_alone(runs[-1]) if len(runs) % 2 else None
        begun = time.monotonic()
        run = variant.start(name, store)
        ended = time.monotonic()
        runs.append(run)
        alone, parts = earlier or _process_alone(run)
        pair = Pair(ended - begun, alone, _paired(_parts_of(run, begun, ended), parts) if parts else {})
        pairs[variant.name].append(pair)
        print(f"{name}: {pair}", file=sys.stderr, flush=True)  # if it is cut off
        return run

    return replace(variant, start=start)


def _process_alone(run: Run) -> tuple[float, Seconds]:
    """The seconds of what was run, without the workbench around it, and of its parts."""
    begun = time.monotonic()
    said = subprocess.run(_alone(run), check=True, stdout=subprocess.PIPE, text=True).stdout
    ended = time.monotonic()
    return ended - begun, _parts_said(said, begun, ended) if run.manifest.config else {}


def _alone(run: Run) -> list[str]:
    """The command of what was run, without the workbench around it."""
    return run.manifest.command or program("answer.py", json.dumps(run.manifest.config), json.dumps(run.workloads[0]))


def _parts_of(run: Run, begun: float, ended: float) -> Seconds:
    """The parts of a run, between two moments of the clock."""
    rows = run.phases().query("name != 'program'")
    start, end = ((run.manifest.started_ns + rows[edge]) / 1e9 for edge in ("start_ns", "end_ns"))
    return _parts(list(zip(rows["name"], start, end, strict=True)), begun, ended)


def _parts_said(said: str, begun: float, ended: float) -> Seconds:
    """The parts of a process that says its phases in its last line of JSON; vLLM says more."""
    return _parts(json.loads([line for line in said.splitlines() if line.startswith("[")][-1]), begun, ended)


def _parts(phases: list[Any], begun: float, ended: float) -> Seconds:
    seconds: Seconds = defaultdict(float)
    for name, start, end in phases:
        seconds[name] += end - start
    seconds["its start"] = min(start for _, start, _ in phases) - begun
    seconds["its end"] = ended - max(end for _, _, end in phases)
    return seconds


def _paired(inside: Seconds, alone: Seconds) -> dict[str, tuple[float, float]]:
    return {part: (inside[part], seconds) for part, seconds in alone.items()}


def _row(name: str, variant: str, pairs: list[Pair]) -> Row:
    inside, alone = [pair.inside for pair in pairs], [pair.alone for pair in pairs]
    what = f"study {name}: a run of {variant}"
    return Row(what, median(inside), "s", None, least_to_most(inside), "the same process alone", median(alone))


def _of(pairs: list[Pair]) -> str:
    return f"n={len(pairs)}, with the answer; median {median(pair.beyond for pair in pairs):.2f} without it"
