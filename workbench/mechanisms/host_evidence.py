"""Host memory in a run's events: what was taken for what was asked, and by which library."""

from __future__ import annotations

from typing import Any, NamedTuple

from workbench.mechanisms.host_rounding import PAGE, taken_bytes
from workbench.run.columns import equals
from workbench.run.evidence import CANNOT_TELL, NOT_OBSERVED, OBSERVED, Evidence, unseen
from workbench.run.run import Run
from workbench.units import format_bytes

NOTE = "host_alloc"  # in a run's notes: of which arm, and the sizes that were asked for
PHASE, FREED = "allocate", "free"  # in which each of them was had and given back, in turn
PAGEABLE = "pageable"


class Taken(NamedTuple):
    """What a library took."""

    owner: str
    bytes: int
    allocations: int


def taken_by_owner(run: Run) -> list[Taken]:
    """Gives what each library took while the run's host memory was had, the most first."""
    sizes: dict[str, list[int]] = {}
    for row in [row for rows in _by_phase(run) for row in rows]:
        sizes.setdefault(row["owner"], []).append(row["bytes"])
    found = [Taken(owner, sum(some), len(some)) for owner, some in sizes.items()]
    return sorted(found, key=lambda one: -one.bytes)


def taken_by_size(run: Run) -> list[int]:
    """Gives the bytes that were taken for each size, in the order in which they were asked for."""
    return [sum(row["bytes"] for row in rows) for rows in _by_phase(run)]


def keeps(run: Run) -> bool:
    """Gives whether what was freed was given back to nobody: torch's pool keeps it for the next that asks."""
    return any(_by_phase(run)) and not any(_by_phase(run, "free", FREED))


def _by_phase(run: Run, kind: str = "alloc", phase: str = PHASE) -> list[list[dict[str, Any]]]:
    """What happened in each phase to what was page-locked, or for the arm that locks nothing, to what was mapped."""
    is_pageable = run.manifest.notes.get(NOTE, {}).get("arm") == PAGEABLE
    events = run.table("events")
    rows = equals(events, "kind", kind) & equals(events, "tier", PAGEABLE if is_pageable else "pinned")
    rows &= equals(events, "layer", "host" if is_pageable else "driver")
    if is_pageable:
        rows &= equals(events, "tag", "staging")
    taken = events.filter(rows).select(["time_ns", "owner", "bytes"]).to_pylist()
    spans = [(one["start_ns"], one["end_ns"]) for one in run.table("phases").to_pylist() if one["name"] == phase]
    return [[row for row in taken if start <= row["time_ns"] <= (end or start)] for start, end in spans]


def evidence(run: Run) -> Evidence | None:
    """Gives whether what was taken is what the run's arm takes for what was asked; None: nothing was asked."""
    note = run.manifest.notes.get(NOTE)
    if not note:
        return None
    arm, asked = note["arm"], note["asked"]
    setting = f"{arm} {', '.join(map(format_bytes, asked))}"
    taken = taken_by_size(run)
    if len(taken) != len(asked):
        return Evidence(setting, CANNOT_TELL, f"{len(taken)} of {len(asked)} sizes were had")
    if blind := unseen(run, setting, "host" if arm == PAGEABLE else "driver"):
        return blind
    each = ", ".join(f"{_exactly(one.bytes)} in {one.allocations} by {one.owner}" for one in taken_by_owner(run))
    off = [abs(have - taken_bytes(arm, size)) for have, size in zip(taken, asked, strict=True)]
    verdict = OBSERVED if all(each < PAGE for each in off) else NOT_OBSERVED
    return Evidence(setting, verdict, f"asked {_exactly(sum(asked))}, taken {each or 'none that is recorded'}")


def _exactly(size: int) -> str:
    return f"{format_bytes(size)} ({size} bytes)"
