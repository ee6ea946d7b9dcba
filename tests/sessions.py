"""What tests of sessions share: configs of a small model, and which engines live."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workbench.config import EngineConfig, Limits


def config(model: Path, **limits: Any) -> EngineConfig:
    return EngineConfig(model=str(model), dtype="float32", limits=Limits(**limits))


def engine_processes(store: Path) -> set[int]:
    """The engines whose runs are somewhere in a folder; others may be at work on this machine."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
            if b"workbench.launch.worker" in command and os.fsencode(store) in command:
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found
