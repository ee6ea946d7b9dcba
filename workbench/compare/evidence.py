"""The verdicts on a run's settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from workbench.config import EngineConfig
from workbench.errors import UsageError
from workbench.mechanisms import graphs, host_evidence, kv_budget, process_group
from workbench.mechanisms.streams import evidence as streams
from workbench.run.evidence import CANNOT_TELL, NOT_OBSERVED, Evidence
from workbench.run.manifest import COMPLETE
from workbench.run.run import Run

CHECKS: dict[str, Callable[[Run, Any], Evidence | None]] = {
    "limits": kv_budget.evidence,
    "parallel": process_group.evidence_of_ranks,
    "process_group": process_group.evidence,
    "graphs": graphs.evidence,
}
"""By axis, what must show in the events of a run."""


def evidence(run: Run) -> list[Evidence]:
    """Gives a verdict on each setting of the run's config that asks for something and shows in memory: see `CHECKS`."""
    if run.manifest.config is None:
        of_programs = (host_evidence.evidence(run), streams.evidence(run))
        return [one for one in of_programs if one]
    try:
        config = EngineConfig.from_dict(run.manifest.config)
    except UsageError as error:  # of another version of the workbench
        return [Evidence("config", CANNOT_TELL, f"this version can not read it: {error}")]
    found = (check(run, getattr(config, axis)) for axis, check in CHECKS.items())
    return [_by_what_came(run, one) for one in found if one is not None]


def _by_what_came(run: Run, one: Evidence) -> Evidence:
    """What a run lacks that ended before its engine was ready might have come."""
    if one.verdict != NOT_OBSERVED or run.manifest.status == COMPLETE or _has_answered(run):
        return one
    return replace(one, verdict=CANNOT_TELL, why=f"{one.why}; its engine was not ready by its end")


def _has_answered(run: Run) -> bool:
    """Whether the engine of a run came so far that it was asked something."""
    return "generate" in run.table("phases")["name"].to_pylist()
