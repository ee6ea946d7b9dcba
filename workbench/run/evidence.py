"""Whether a setting of a run took effect, as its events say."""

from __future__ import annotations

from dataclasses import dataclass

OBSERVED, NOT_OBSERVED, CANNOT_TELL = "observed", "not observed", "cannot tell"


@dataclass(frozen=True)
class Evidence:
    """A verdict on one setting, and the numbers that it rests on."""

    setting: str  # such as `graphs full`
    verdict: str  # observed | not observed | cannot tell
    why: str
