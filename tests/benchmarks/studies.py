"""What a study costs beyond what it studies: each of its processes beside the same one alone, not recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

from tests.benchmarks.processes import program
from tests.benchmarks.rows import Row, least_to_most
from workbench.engines.host import Host
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.studies import STUDIES
from workbench.studies.base import Variant, do

NAMES = ("process-group", "pinned-memory")
LEAST_RUNS = 6  # of a study
MOST_S = 2.0  # a run of a variant
Times = dict[str, list[tuple[float, float]]]  # by variant, of each run: seconds in the study, and alone


def measure(folder: Path, quick: bool) -> Iterator[Row]:
    """The rows of every study whose variants this host has, some of them at least."""
    for name in NAMES:
        yield from _rows(name, folder, quick)


def _rows(name: str, folder: Path, quick: bool) -> list[Row]:
    study = STUDIES[name]()
    here = [variant for variant in study.variants if variant.why_not() is None and _is_told(variant)]
    for first in {_program_of(variant): variant for variant in reversed(here)}.values():
        first.start("warm-up", Store(folder))  # vLLM's first run compiles what the others find
    times: Times = defaultdict(list)
    timed = tuple(_timed(variant, times) for variant in here)
    repeats = 1 if quick else -(-LEAST_RUNS // len(here))
    start = time.perf_counter()
    document = do(replace(study, variants=timed), repeats, Store(folder), lambda _: None).document()
    whole = time.perf_counter() - start
    if failed := [variant["why"] for variant in document["variants"] if variant["why"]]:
        raise SystemExit("; ".join(failed))
    runs = [run for of_variant in times.values() for run in of_variant]
    alone = sum(seconds for _, seconds in runs)
    return [
        *(_row(name, variant, of_variant) for variant, of_variant in times.items()),
        Row(
            f"study {name}: a run, beyond the same process alone",
            (whole - 2 * alone) / len(runs),
            "s",
            MOST_S,
            _of(runs),
        ),
    ]


def _program_of(variant: Variant) -> str:
    return variant.name.partition("-")[0]


def _is_told(variant: Variant) -> bool:
    """On a CPU vLLM compiles anew at each start, for a minute or more, and that varies by more than is asked for."""
    return bool(Host.here().gpus) or not variant.name.startswith("vllm-")


def _timed(variant: Variant, times: Times) -> Variant:
    """The variant, whose every run is followed by the same process alone, so that both see the same machine."""

    def start(name: str, store: Store | None) -> Run:
        begun = time.perf_counter()
        run = variant.start(name, store)
        ended = time.perf_counter()
        subprocess.run(_alone(run), check=True, stdout=subprocess.DEVNULL)
        spent, alone = ended - begun, time.perf_counter() - ended
        times[variant.name].append((spent, alone))
        print(f"{name}: {spent:.2f} s, alone {alone:.2f} s", file=sys.stderr, flush=True)  # if it is cut off
        return run

    return replace(variant, start=start)


def _alone(run: Run) -> list[str]:
    """The command of what was run, without the workbench around it."""
    return run.manifest.command or program("answer.py", json.dumps(run.manifest.config))


def _row(name: str, variant: str, times: list[tuple[float, float]]) -> Row:
    inside, alone = ([pair[place] for pair in times] for place in (0, 1))
    what = f"study {name}: a run of {variant}"
    return Row(what, median(inside), "s", None, least_to_most(inside), "the same process alone", median(alone))


def _of(runs: list[tuple[float, float]]) -> str:
    return f"n={len(runs)}, with the answer; median {median(a - b for a, b in runs):.2f} without it"
