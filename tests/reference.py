"""What the reference engine's tests share: one that has a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.config import EngineConfig, Limits
from workbench.engines.reference.engine import ReferenceEngine
from workbench.recorder.probe import NullProbe, Probe


def loaded(model: Path, probe: Probe | None = None, dtype: Any = "float32", **limits: Any) -> ReferenceEngine:
    """Gives an engine with a model of a folder."""
    made = ReferenceEngine()
    made.load(EngineConfig(model=str(model), dtype=dtype, limits=Limits(**limits)), probe or NullProbe())
    return made
