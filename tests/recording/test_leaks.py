"""A thousand rounds of a mechanism leave nothing: no file, no thread, nothing in the ledger of their own recording."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import workbench
from workbench.recorder.settings import Settings
from workbench.run.run import Run
from workbench.run.store import Store

ROUNDS = {
    "process group": "with ProcessGroup('gloo'): pass",
    "host memory": "allocate('pageable', 1 << 20).free()",
}
PROGRAM = """
import gc, glob, os, tempfile, workbench
from workbench.mechanisms.host_alloc import allocate
from workbench.mechanisms.process_group import ProcessGroup

def rounds(count):
    for _ in range(count):
        {round}
    gc.collect()

def left():
    found = {{what: len(os.listdir("/proc/self/" + what)) for what in ("fd", "task")}}
    shared = [name for name in os.listdir("/dev/shm") if str(os.getpid()) in name]
    return found | {{"shared": shared, "private": glob.glob(tempfile.gettempdir() + "/workbench-group-*")}}

with workbench.phase("first"):
    rounds(10)
    before = left()
with workbench.phase("rounds"):
    rounds(1000)
assert left() == before, (left(), before)
"""
LEAST = 1024  # bytes of what is recorded: the largest that a group has is 8 KiB
MOST = 2 << 20  # bytes in all; Python takes a MiB for its small objects at a time


def held(run: Run, phase: str) -> int:
    """Bytes of all that was had and not given back when a phase ended."""
    events, phases = run.events(), run.phases().set_index("name")
    until = events[events["time_ns"] <= phases.loc[phase, "end_ns"]]
    return int(until["bytes"].where(until["kind"] == "alloc", -until["bytes"]).sum())


@pytest.mark.parametrize("mechanism", ROUNDS)
def test_a_thousand_rounds_leave_nothing(
    mechanism: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(round=ROUNDS[mechanism]))
    run = workbench.record_program([sys.executable, str(script)], store=store, settings=Settings(threshold=LEAST))
    assert (run.manifest.status, run.manifest.error) == ("complete", None)
    assert held(run, "rounds") - held(run, "first") < MOST
    per_round = (run.events()["kind"] == "alloc").sum() / 1000
    assert per_round >= 1, "rounds have nothing that is recorded, so that this shows nothing"
