"""What a run keeps of its sources: a line for each thing that one could not see, and why where it was off."""

from __future__ import annotations

from collections.abc import Sequence

OFF = "off: "  # how the line of a source begins that saw nothing


def why_off(limits: Sequence[str]) -> str | None:
    """Gives why a source saw nothing; None: it was on."""
    return next((limit.removeprefix(OFF) for limit in limits if limit.startswith(OFF)), None)
