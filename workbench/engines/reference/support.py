"""What the reference engine can do here; imported without torch."""

from __future__ import annotations

from typing import Any

from workbench.engines.host import Host

CLASS = "workbench.engines.reference.engine:ReferenceEngine"


def missing() -> str | None:
    """Gives why this engine can not run here at all: nothing it needs can be missing."""
    return None


def why_not(axis: str, value: Any, host: Host) -> str | None:
    """Gives why it can not run with this value on this axis."""
    if axis == "graphs" and value.name in ("piecewise", "full") and not host.gpus:
        return "CUDA graphs need a GPU, and this machine has none"
    return None
