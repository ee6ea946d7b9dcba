"""What the reference engine can do here; imported without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.config import EngineConfig
from workbench.engines.host import Host
from workbench.engines.reference.shape import Shape
from workbench.mechanisms import process_group

CLASS = "workbench.engines.reference.engine:ReferenceEngine"
# A step has hundreds of barriers. By itself OpenMP spins at each for milliseconds if need be, and whatever else wants a
# core then makes the engine fifty times slower.
ENVIRONMENT = {"GOMP_SPINCOUNT": "1000"}


def missing() -> str | None:
    """Gives why this engine can not run here at all: nothing it needs can be missing."""
    return None


def why_not(axis: str, value: Any, host: Host) -> str | None:
    """Gives why it can not run with this value on this axis."""
    if axis == "graphs" and value.name in ("piecewise", "full") and not host.gpus:
        return "CUDA graphs need a GPU, and this machine has none"
    if axis == "process_group" and value.name != "stock":
        return process_group.why_not(value.name, host.gpus)
    if axis == "parallel" and value.tensor > 1:
        return "it is one rank: set parallel.tensor to 1, or take engine vllm"
    return None


def conflict(config: EngineConfig) -> str | None:
    """Gives why two of a config's values can not go together: none exclude each other."""
    return None


def refuse_model(folder: Path) -> None:
    """Refuses a model of whose shape this engine can make nothing."""
    Shape.read(folder)
