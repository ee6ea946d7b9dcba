"""What page-locked host memory takes, costs and gives, by the way it is had."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from workbench.engines.host import Host
from workbench.launch.programs import record_program
from workbench.mechanisms.free_memory import free_bytes
from workbench.mechanisms.host_alloc import PinnedPoolExact, why_not
from workbench.mechanisms.host_evidence import keeps, taken_by_owner, taken_by_size
from workbench.mechanisms.host_rounding import ARMS, taken_bytes
from workbench.recorder.settings import DEFAULT_THRESHOLD
from workbench.run.manifest import COMPLETE
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.studies.base import Measure, Outcome, Study, Variant, of_program, pairs
from workbench.studies.telling import apart, between
from workbench.units import exact_bytes, format_bytes

PROGRAM = (sys.executable, "-m", "workbench.studies.pinned_program")
SIZES = tuple(size << 20 for size in (1, 65, 257, 1025))
ROOM = 0.8  # of what is free: as much may be taken to measure
MEASURED, PREDICTED = "measured", "predicted"


def study() -> Study:
    """Gives the study: every arm, at every size that this host has room for."""
    sizes = [size for size in SIZES if taken_bytes("pinned-pool", size) <= free_bytes() * ROOM]
    question = "What does page-locked memory take beyond what is asked for, and what do its ways cost and give?"
    return Study("pinned-memory", question, tuple(_variant(arm, sizes) for arm in ARMS), measure, answer)


def _variant(arm: str, sizes: Sequence[int]) -> Variant:
    against = None if arm == "pinned-pool" else "pinned-pool"
    return of_program(arm, _command(arm, sizes), lambda: why_not(arm, Host.here().gpus), against)


def _command(arm: str, sizes: Sequence[int]) -> list[str]:
    return [*PROGRAM, arm, *map(str, sizes)]


def rows_of(run: Run) -> list[dict[str, Any]]:
    """Gives what a run of the program found, a row a size; `taken` is what its events say."""
    rows: list[dict[str, Any]] = run.manifest.notes.get("measured", {}).get("rows", [])
    return [row | {"taken": taken} for row, taken in zip(rows, taken_by_size(run), strict=False)]


def measure(run: Run) -> dict[str, Measure]:
    """Gives for each size the bytes taken, the time to have and to free it, and the bandwidth of copies each way."""
    units = {"taken": "B", "allocate_s": "s", "free_s": "s", "to_device_per_s": "B/s", "to_host_per_s": "B/s"}
    return {
        f"{exact_bytes(row['asked'])} {name}": Measure(row[name], unit)
        for row in rows_of(run)
        for name, unit in units.items()
        if name in row
    }


def answer(outcomes: list[Outcome]) -> list[str]:
    """Gives a sentence for each arm: what its largest size took, how long that took, and how fast copies were."""
    bases = {id(one): base for base, one in pairs(outcomes)}
    return [_sentence(outcome, bases.get(id(outcome))) for outcome in outcomes if any(map(rows_of, outcome.runs))]


def _sentence(outcome: Outcome, base: Outcome | None) -> str:
    asked = max(int(row["asked"]) for run in outcome.runs for row in rows_of(run))
    had, taken, freed = (_all(outcome, asked, name) for name in ("allocate_s", "taken", "free_s"))
    much = f"takes {between(taken, 'B')} for {exact_bytes(asked)} ({median(taken) / asked:.3f} times)"
    beside = ""
    if base and (others := _all(base, asked, "allocate_s")):  # it may have had no room for that size
        beside = f" ({apart(others, had)} {base.variant.name})"
    ways = {"to_device_per_s": "to the GPU", "to_host_per_s": "back"}
    speeds = ", ".join(f"{between(some, 'B/s')} {ways[name]}" for name in ways if (some := _all(outcome, asked, name)))
    copies = f"; copies at {speeds}" if speeds else ""
    free = f"freed in {between(freed)}{_kept(outcome)}"
    return f"{outcome.variant.name} {much}, had in {between(had)}{beside}, {free}{copies}"


def _kept(outcome: Outcome) -> str:
    """Whether a pool keeps what is freed; that of `pinned-pool-exact` did in runs of before it was told not to."""
    if not keeps(outcome.runs[0]):
        return ""
    return " and kept" + (" (told only not to round)" if outcome.variant.name == PinnedPoolExact.name else "")


def _all(outcome: Outcome, asked: int, name: str) -> list[float]:
    """A number of every repeat."""
    rows = (row for run in outcome.runs for row in rows_of(run))
    return [row[name] for row in rows if row["asked"] == asked and name in row]


@dataclass(frozen=True)
class Cost:
    """What an arm takes for a size, and how that is known."""

    arm: str
    asked: int
    taken: int
    how: str  # measured | predicted
    why: str | None = None  # it is not measured
    predicted: int = 0
    allocate_s: float | None = None
    owners: tuple[str, ...] = ()  # the libraries that took it


def costs(asked: int, store: Store | None = None) -> list[Cost]:
    """Gives what every arm takes for a size: measured in a fresh process where it fits here, else predicted."""
    return [_cost(arm, asked, store) for arm in ARMS]


def _cost(arm: str, asked: int, store: Store | None) -> Cost:
    expected = taken_bytes(arm, asked)
    why = why_not(arm, Host.here().gpus) or _does_not_fit(expected) or _is_not_recorded(arm, expected)
    if why:
        return Cost(arm, asked, expected, PREDICTED, why, expected)
    run = record_program(_command(arm, [asked]), name=f"pinned-cost-{arm}", store=store, raises_interrupts=True)
    if run.manifest.status != COMPLETE:
        why = f"it could not be measured: {(run.manifest.error or {}).get('what')}"
        return Cost(arm, asked, expected, PREDICTED, why, expected)
    [row] = rows_of(run)
    return Cost(arm, asked, row["taken"], MEASURED, None, expected, row["allocate_s"], _owners(run))


def _owners(run: Run) -> tuple[str, ...]:
    return tuple(one.owner for one in taken_by_owner(run))


def _does_not_fit(taken: int) -> str | None:
    free = free_bytes()
    if taken > free * ROOM:
        return (
            f"it would take {format_bytes(taken)}, more than {ROOM:.0%} of the {format_bytes(free)} that are free here"
        )
    return None


def _is_not_recorded(arm: str, taken: int) -> str | None:
    if arm == "pageable" and 0 < taken < DEFAULT_THRESHOLD:
        return f"a recording has requests below {exact_bytes(DEFAULT_THRESHOLD)} as one sum"
    return None
