"""What the tests of recordings share: a store of their own, and a script that is recorded into it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import workbench
from workbench.run.run import Run
from workbench.run.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def record(store: Store, folder: Path, text: str) -> Run:
    """Record a Python program with this text."""
    script = folder / "program.py"
    script.write_text(text)
    return workbench.record_program([sys.executable, str(script)], store=store)
