"""Whether a setting of a run took effect, as its events say."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.run.run import Run
from workbench.run.sources import why_off

OBSERVED, NOT_OBSERVED, CANNOT_TELL = "observed", "not observed", "cannot tell"


@dataclass(frozen=True)
class Evidence:
    """A verdict on one setting, and the numbers that it rests on."""

    setting: str  # such as `graphs full`
    verdict: str  # observed | not observed | cannot tell
    why: str


def unseen(run: Run, setting: str, source: str) -> Evidence | None:
    """Gives the verdict on what only one source sees, where it was off; None: it was on."""
    why = why_off(run.manifest.sources.get(source, []))
    return None if why is None else Evidence(setting, CANNOT_TELL, f"the source {source} was off: {why}")
