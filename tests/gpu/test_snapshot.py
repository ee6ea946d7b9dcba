"""Snapshots that torch really writes, and memory that really runs out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.launch.programs import record_program
from workbench.run import schema
from workbench.run.interchange import read_snapshot
from workbench.run.ledger import ledger_at
from workbench.run.store import Store

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

PROGRAM = str(Path(__file__).parent / "programs" / "snapshot.py")


@pytest.mark.parametrize("given", [["python"], ["all"], ["python", "expandable"]])
def test_a_snapshot_of_torch_is_imported_with_its_sums(tmp_path: Path, given: list[str]) -> None:
    path = tmp_path / "snapshot.pickle"
    done = subprocess.run([sys.executable, PROGRAM, str(path), *given], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    imported = read_snapshot(path)
    events = imported.tables["events"]
    end = max(events["time_ns"].to_pylist())
    ledger = ledger_at(events, schema.TOTALS.empty_table(), "gpu", end)
    assert ledger.explained == said["reserved"]
    assert sum(entry.bytes for entry in ledger.entries if entry.tag != "unused") == said["active"]
    assert imported.facts["out_of_memory"]
    assert any("snapshot.py" in str(stack) for stack in imported.tables["stacks"]["frames"].to_pylist())


def test_running_out_of_device_memory_keeps_what_was_alive(tmp_path: Path) -> None:
    run = record_program([sys.executable, PROGRAM, str(tmp_path / "x"), "python"], store=Store(tmp_path / "runs"))
    assert run.manifest.exit_code == 0
    [shortage] = [one for one in run.manifest.shortages if one["tier"] == "gpu"]
    assert shortage["alive"]["gpu"]["torch"] >= 48 << 20
