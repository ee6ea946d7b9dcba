"""The verdicts on a run's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.config import EngineConfig
from workbench.errors import UsageError
from workbench.mechanisms import graphs, host_evidence, kv_budget, process_group
from workbench.mechanisms.streams import evidence as streams
from workbench.run.evidence import CANNOT_TELL, Evidence
from workbench.run.run import Run

CHECKS: dict[str, Callable[[Run, Any], Evidence | None]] = {
    "limits": kv_budget.evidence,
    "parallel": process_group.evidence_of_ranks,
    "process_group": process_group.evidence,
    "graphs": graphs.evidence,
}
"""By axis, what must show in the events of a run."""


def evidence(run: Run) -> list[Evidence]:
    """Gives a verdict on every setting of the run's config that asks for something."""
    if run.manifest.config is None:
        of_programs = (host_evidence.evidence(run), streams.evidence(run))
        return [one for one in of_programs if one]
    try:
        config = EngineConfig.from_dict(run.manifest.config)
    except UsageError as error:  # of another version of the workbench
        return [Evidence("config", CANNOT_TELL, f"this version can not read it: {error}")]
    found = (check(run, getattr(config, axis)) for axis, check in CHECKS.items())
    return [one for one in found if one is not None]
