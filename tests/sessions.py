"""What tests of sessions share: configs of a small model, and the engines that are left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No engine outlives the test that began it: for whichever file of tests imports this."""
    yield
    deadline = time.monotonic() + 10
    while engine_processes(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not engine_processes(tmp_path)
