"""Recordings that are cut short, by a disk or a signal, say so in one line and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.recording.conftest import record
from workbench.launch.recording import Scribing, create
from workbench.recorder import wire
from workbench.recorder.scribe import ABANDONED
from workbench.run.folder import is_locked
from workbench.run.run import Run
from workbench.run.store import Store

RECORD = (sys.executable, "-m", "workbench", "record", "--out")


@pytest.mark.parametrize("limit", [10, 500])  # bytes a file: too few for the manifest, and for the scribe
def test_a_disk_that_is_full_at_the_start_is_told_in_one_line(store: Store, limit: int) -> None:
    command = ["prlimit", f"--fsize={limit}", *RECORD, str(store.folder), "--", "echo", "it ran"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    line = f"workbench: no run can be written in {store.folder}: File too large; choose another --out\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
    assert list(store.folder.iterdir()) == []


PROGRAM = (sys.executable, "-c")
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
WAITS = "import os, time, numpy; x = numpy.ones(9 << 20, numpy.uint8); print(os.getpid(), flush=True); time.sleep(99)"


@pytest.mark.parametrize("before", ["", STUBBORN], ids=["ends", "is-killed"])
def test_a_sigterm_ends_the_program_and_the_run(store: Store, before: str) -> None:
    command = [*RECORD, str(store.folder), "--", *PROGRAM, before + WAITS]
    recording = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert recording.stdout is not None
    pid = int(recording.stdout.readline())
    for _ in range(2):  # `timeout` sends it to the process, and to its group
        recording.terminate()
    out, err = recording.communicate(timeout=30)
    assert (recording.returncode, err) == (143, "workbench: the recording and its program were ended by SIGTERM\n")
    assert not Path(f"/proc/{pid}").exists()
    said = json.loads(out.splitlines()[-1])
    assert (said["status"], said["exit_code"]) == ("incomplete", 143)
    assert 9 << 20 in store.open(said["run"]).events()["asked"].tolist()


def test_a_run_whose_recording_process_was_killed_says_so(store: Store) -> None:
    command = [*RECORD, str(store.folder), "--", *PROGRAM, WAITS]
    recording = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert recording.stdout is not None
    pid = int(recording.stdout.readline())
    recording.kill()
    recording.wait()
    [folder] = store.folder.iterdir()
    while is_locked(folder):
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    manifest = Run.open(folder).manifest
    assert (manifest.status, manifest.error) == ("incomplete", {"what": ABANDONED})


STARTS = "import os, subprocess, sys, time, workbench\n"
CHILD = "import os, sys, numpy; x = numpy.ones(40 << 20, numpy.uint8); print(1, flush=True); {how}"
SPAWNED = (
    f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdout=subprocess.PIPE)\nchild.stdout.readline()\n"
)
FORKED = (
    "ready, told = os.pipe()\n"
    "if not os.fork():\n    import numpy\n    {phase}x = numpy.ones(40 << 20, numpy.uint8)\n"
    "    os.write(told, b'1')\n    {how}\n"
    "os.read(ready, 1)\n"
)
FAILS_LATER = "time.sleep(2)\nsys.exit(3)\n"  # the memory of the one that is gone was taken for given back meanwhile


@pytest.mark.parametrize(
    ("text", "is_why"),
    [
        (SPAWNED.format(how="os.kill(os.getpid(), 9)"), True),
        (SPAWNED.format(how="sys.exit()"), False),
        (SPAWNED.format(how="os.execv('/bin/sleep', ['sleep', '1'])"), False),
        (FORKED.format(phase="", how="os.kill(os.getpid(), 9)"), False),
        (FORKED.format(phase="with workbench.phase('rank'): ", how="os.kill(os.getpid(), 9)"), True),
    ],
    ids=["killed", "ended", "became another", "a helper", "a rank"],
)
def test_a_failure_has_the_memory_of_the_process_that_was_cut_off_before(
    store: Store, tmp_path: Path, text: str, is_why: bool
) -> None:
    run = record(store, tmp_path, STARTS + text + FAILS_LATER)
    assert run.manifest.error is not None
    held = {owner: size for owner, size in run.manifest.error["alive"]["pageable"].items() if "umath" in owner}
    assert bool(held) == is_why
    assert (run.manifest.error["time_s"] < run.manifest.duration_s - 1.5) == is_why  # type: ignore[operator]


def test_a_run_that_takes_long_to_be_sealed_is_complete(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ANSWER_WITHIN_S", 0.001)
    run = Scribing(create("slow", store)).finish("complete")
    assert (run.manifest.status, run.manifest.error) == ("complete", None)
