"""Who runs programs to find something out is told of what interrupts it: nothing more is run, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import workbench
from workbench.launch.termination import HeldBack, Terminated, terminable
from workbench.run.store import Store

WAITS = """
import os, subprocess, time
print(os.getpid(), subprocess.Popen(["sleep", "99"]).pid, flush=True)
time.sleep(99)
"""
STUDY = f"""
import sys
from workbench import studies
from workbench.cli.main import main
from workbench.studies.base import Study, of_program

variants = tuple(of_program(name, [sys.executable, "-c", {WAITS!r}], lambda: None) for name in "abc")
studies.STUDIES["waits"] = lambda: Study("waits", "?", variants, lambda run: {{}}, lambda outcomes: [])
sys.exit(main(["study", "waits", "--repeats", "2", "--out", sys.argv[1]]))
"""
ENDINGS = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, "ended by SIGTERM"),
    signal.SIGHUP: (129, "ended by SIGHUP"),
}


def started(*command: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | more,
    )


def lives(pid: int) -> bool:
    """Whether a process does; one that has ended may wait for a parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("sign", ENDINGS, ids=lambda sign: sign.name)
@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["of the terminal", "to it alone"])
def test_an_interrupt_ends_a_study_of_programs(
    store: Store, sign: signal.Signals, send: Callable[[int, int], None]
) -> None:
    with started("-c", STUDY, str(store.folder)) as study:
        assert study.stdout is not None
        pids = [int(pid) for pid in study.stdout.readline().split()]
        for _ in range(2):  # as `timeout` sends them, and people do
            send(study.pid, sign)
        out, err = study.communicate(timeout=30)
    code, what = ENDINGS[sign]
    [run] = store.runs()
    assert (study.returncode, out) == (code, "")
    assert err == f"waits: a, 1 of 2\nworkbench: {what}; the run is kept: {run.folder}\n"
    assert (run.manifest.status, run.manifest.exit_code) == ("incomplete", code)
    assert run.manifest.error is not None
    assert run.manifest.error["what"] == f"the recording and its program were {what}"
    assert not any(map(lives, pids))


@pytest.mark.parametrize("sign", ENDINGS, ids=lambda sign: sign.name)
@pytest.mark.parametrize("command", [("pinned-cost", "64MiB"), ("doctor",)], ids=" ".join)
def test_an_interrupt_ends_what_is_measured_for_now_and_nothing_stays(
    tmp_path: Path, command: tuple[str, ...], sign: signal.Signals
) -> None:
    with started("-m", "workbench", *command, TMPDIR=str(tmp_path)) as measuring:
        while not list(tmp_path.glob("*/*/manifest.json")):
            assert measuring.poll() is None
            time.sleep(0.01)
        os.killpg(measuring.pid, sign)
        out, err = measuring.communicate(timeout=30)
    code, what = ENDINGS[sign]
    assert (measuring.returncode, out) == (code, "")
    assert err == f"workbench: {what}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_dies_of_a_ctrl_c_interrupts_only_who_asked_for_it(store: Store) -> None:
    dies = [sys.executable, "-c", "import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), 2)"]
    run = workbench.record_program(dies, store=store)
    assert run.manifest.error is not None
    assert run.manifest.error["what"] == "the program was killed by SIGINT"
    with pytest.raises(KeyboardInterrupt):
        workbench.record_program(dies, store=store, raises_interrupts=True)


def test_a_program_may_answer_a_ctrl_c(store: Store) -> None:
    answers = "import signal, sys, time; signal.signal(2, lambda *_: sys.exit(3)); print(1, flush=True); time.sleep(99)"
    command = ["-m", "workbench", "record", "--out", str(store.folder), "--", sys.executable, "-c", answers]
    with started(*command) as recording:
        assert recording.stdout is not None
        recording.stdout.readline()
        os.killpg(recording.pid, signal.SIGINT)
        recording.communicate(timeout=30)
    assert recording.returncode == 3


def test_what_interrupts_is_held_back() -> None:
    reached: list[str] = []
    with pytest.raises(Terminated, match="ended by SIGTERM"), terminable():
        interrupted_three_times(reached)
    assert reached == ["held", "held again"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupted_three_times(reached: list[str]) -> None:
    with HeldBack() as held:
        signal.raise_signal(signal.SIGINT)
        reached.append("held")
        with pytest.raises(KeyboardInterrupt), held.let_through():
            reached.append("not reached")
        with pytest.raises(KeyboardInterrupt), held.let_through():
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        reached.append("held again")


def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
