"""Programs in a namespace of process ids of their own, as in a container: they are looked up by their numbers here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import workbench
from tests.recording.test_hard_cases import truth_holds
from workbench.recorder.numbers import NOBODY, number_here
from workbench.run.store import Store

MIB = 1 << 20
UNSHARE = ["unshare", *([] if os.getuid() == 0 else ["--user", "--map-root-user"]), "--pid", "--fork"]
PROGRAM = """
import os, time, workbench
from pathlib import Path
Path("here").write_text(os.readlink("/proc/self"))  # /proc is still that of outside
assert os.getpid() == 1
with workbench.phase("held"):
    x = bytearray(60 << 20)
if os.fork() == 0:
    with workbench.phase("child"):
        y = bytearray(30 << 20)
    os._exit(0)
os.wait()
"""


def is_permitted() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not is_permitted(), reason="this machine permits no namespaces")
def test_what_lives_in_a_namespace_is_looked_up_by_its_number_here(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(PROGRAM)
    run = workbench.record_program([*UNSHARE, sys.executable, "program.py"], store=store)
    assert run.manifest.status == "complete"
    here = int(Path("here").read_text())
    phases, events = run.phases().set_index("name")["process"], run.events()
    assert phases["held"] == phases["program"] == here
    assert set(events.loc[events["bytes"].between(60 * MIB, 61 * MIB), "process"]) == {here}
    assert set(events.loc[events["bytes"].between(30 * MIB, 31 * MIB), "process"]) == {phases["child"]}
    assert phases["child"] != here
    assert sum(truth_holds(run, "held").values()) > 60 * MIB
    assert sum(truth_holds(run, "child").values()) > 30 * MIB  # what it has of its parent is both's


def test_who_lives_here_keeps_its_number_and_who_is_gone_has_nobodys() -> None:
    here = os.stat("/proc/self/ns/pid").st_ino
    assert number_here(7, here) == number_here(7, 0) == 7
    assert number_here(7, here + 1) == NOBODY + 7
    assert not Path("/proc", str(NOBODY + 7)).exists()
