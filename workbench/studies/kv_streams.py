"""What many transfers in flight cost who submits them, by how they share streams."""

from __future__ import annotations

import sys
from statistics import median
from typing import Any

from workbench.engines.host import Host
from workbench.mechanisms.streams.transfers import UNORDERED
from workbench.mechanisms.streams.values import VALUES
from workbench.run.run import Run
from workbench.studies.base import Measure, Outcome, Study, Variant, of_program
from workbench.studies.telling import between, duration

NOTE = "measured"  # what a run keeps the program's findings under
IDLE_NS = 2000  # nothing is done for about as long as a submission takes: what the host alone takes of the thread
NO_THREAD = "no-thread"  # who submits hands on, where by itself a thread would
PROGRAM = (sys.executable, "-m", "workbench.studies.kv_streams_program")
SMALL, LARGE = 4 << 10, 64 << 10  # bytes of a transfer: some tokens of a small model, a block of a large one
SIZES = {SMALL: (1, 100, 1_000, 10_000, 100_000), LARGE: (1_000, 8_000)}  # transfers in flight
ALONE = (1, 1_000)  # of these, also what a thread saves
UNITS = {"p50_s": "s", "p99_s": "s", "idle_p99_s": "s", "max_s": "s", "driver_p99_s": "s"}
UNITS |= {"submit_s": "s", "total_s": "s", "delay_s": "s"}
UNITS |= {"host_bytes": "B", "first_blocked": "", "corrupted": ""}


def study() -> Study:
    """Gives the study: every value of streams, over how many transfers are in flight and how large they are."""
    question = "From how many transfers in flight does submitting one hold up the model, and which streams prevent it?"
    given = [(value, count, size) for size, counts in SIZES.items() for count in counts for value in VALUES]
    variants = [_variant(*each) for each in given]
    variants += [_variant(value, count, SMALL, NO_THREAD) for count in ALONE for value in ("per-transfer", "bounded")]
    variants.append(_variant("per-transfer", 1_000, SMALL, UNORDERED))
    return Study("kv-streams", question, tuple(variants), measure, answer)


def _variant(value: str, in_flight: int, size: int, *options: str) -> Variant:
    against = None if value == "single" else _name("single", in_flight, size)
    command = [*PROGRAM, value, str(in_flight), str(size), *options]
    return of_program(_name(value, in_flight, size, *options), command, _why_not, against)


def _name(value: str, in_flight: int, size: int, *options: str) -> str:
    return "-".join([value, *options, str(in_flight), f"{size >> 10}KiB"])


def _why_not() -> str | None:
    return None if Host.here().gpus else "streams need a CUDA device"


def found_in(run: Run) -> dict[str, Any]:
    """Gives what the program found."""
    found: dict[str, Any] = run.manifest.notes.get(NOTE, {})
    return found


def measure(run: Run) -> dict[str, Measure]:
    """Gives the cost of submitting, the time of all, what compute lost beside them, and what the host gave."""
    found = found_in(run)
    if found:
        found = found | {"host_bytes": found["private_bytes"] + found["pinned_bytes"]}
    return {name: Measure(found[name], unit) for name, unit in UNITS.items() if found.get(name) is not None}


def answer(outcomes: list[Outcome]) -> list[str]:
    """Gives a sentence for each value and size of transfers, and one for what happens without order."""
    cases: dict[tuple[str, int, str, bool], list[dict[str, Any]]] = {}
    for found in (found_in(run) for outcome in outcomes for run in outcome.runs):
        if found:
            case = found["value"], found["bytes"], found["ordering"], found["has_thread"]
            cases.setdefault(case, []).append(found)
    return [
        _unordered(value, rows) if ordering == UNORDERED else _sentence(value, size, has_thread, rows)
        for (value, size, ordering, has_thread), rows in cases.items()
    ]


def _sentence(value: str, size: int, has_thread: bool, rows: list[dict[str, Any]]) -> str:
    counts = sorted({row["in_flight"] for row in rows})
    most, by = counts[-1], "a thread" if has_thread else "who submits"
    which = f"{counts[0]} to {most}" if len(counts) > 1 else f"{most}"
    words = f"{value}, handed on by {by}, {size >> 10} KiB each, {which} in flight"
    told = [_submission(rows), *_handing_on(rows), _blocking(rows), _cost(most, rows)]
    return f"{words}: {'; '.join(told)}{_corruption(rows)}"


def _worst(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The runs of the count that has the largest median."""
    counts: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        counts.setdefault(row["in_flight"], []).append(row)
    return max(counts.values(), key=lambda some: median(row[name] for row in some))


def _handing_on(rows: list[dict[str, Any]]) -> list[str]:
    """What a thread has of it, where there is one."""
    if not rows[0]["has_thread"] or any("driver_p99_s" not in row for row in rows):
        return []
    slowest = median(row["driver_p99_s"] for row in _worst(rows, "driver_p99_s"))
    return [f"the driver takes the thread up to {duration(slowest)} for one (p99)"]


def _submission(rows: list[dict[str, Any]]) -> str:
    """The worst count's 99th percentile, beside what the host takes of a thread that does nothing."""
    worst = _worst(rows, "p99_s")
    slowest = [row["p99_s"] for row in worst]
    told = f"p99 of a submission is at most {duration(median(slowest))}"
    if len(slowest) > 1:
        told += f", {between(slowest)} in {len(slowest)} runs"
    if idle := [row["idle_p99_s"] for row in worst if "idle_p99_s" in row]:
        told += f" (of an empty loop of {duration(IDLE_NS / 1e9)}: {duration(median(idle))})"
    return told


def _blocking(rows: list[dict[str, Any]]) -> str:
    blocked = [row for row in rows if row["first_blocked"]]
    if not blocked:
        return "none waits for room"
    worst = max(blocked, key=_longest)
    first = min(row["first_blocked"] for row in blocked)
    same = [bool(row["first_blocked"]) for row in rows if row["in_flight"] == worst["in_flight"]]
    often = "" if all(same) else f" (in {sum(same)} of {len(same)} runs)"
    longest = f"{duration(worst['max_s'])} with {worst['in_flight']} in flight"
    return f"submission {first} waits for room, up to {longest}{often}"


def _cost(most: int, rows: list[dict[str, Any]]) -> str:
    last = [row for row in rows if row["in_flight"] == most]
    delays, totals = ([row[name] for row in last] for name in ("delay_s", "total_s"))
    delay = f"delay the compute beside them by {between(delays)}"
    if max(delays) <= 0:  # within what compute alone varies by
        delay = f"do not delay the compute beside them ({between(delays)})"
    return f"{most} take {between(totals)} in all and {delay}"


def _corruption(rows: list[dict[str, Any]]) -> str:
    corrupted = sum(row["corrupted"] for row in rows)
    return f"; {corrupted} blocks corrupted" if corrupted else ""


def _unordered(value: str, rows: list[dict[str, Any]]) -> str:
    corrupted = min(row["corrupted"] / row["rounds"] for row in rows)  # in the mean of a run's rounds
    return f"{value} without order: of {rows[0]['in_flight']} blocks {corrupted:.0f} a round are corrupted"


def _longest(row: dict[str, Any]) -> float:
    return float(row["max_s"])
