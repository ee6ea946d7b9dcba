"""Engines that fail, are killed or lose who wanted them: the error says why, and the run is kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest

import workbench
from tests.sessions import config, engine_processes
from workbench.config import EngineConfig, Gloo, KvBudget, Limits, NoGraphs, Workload
from workbench.errors import EngineError
from workbench.launch.session import Session
from workbench.run.run import Run
from workbench.run.store import Store

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_an_engine_that_dies_while_nothing_is_asked_of_it_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    session = Session(config(tiny_model), store=Store(tmp_path))
    session.__enter__()
    [pid] = engine_processes(tmp_path)
    os.kill(pid, signal.SIGKILL)
    session._process.wait()
    with pytest.raises(EngineError, match=r"killed by SIGKILL.*; the run is kept"):
        session.__exit__(None, None, None)


def test_a_run_says_what_was_asked_while_it_is_recorded_and_where_all_is_killed(
    tiny_model: Path, tmp_path: Path
) -> None:
    many = Workload(("many times over",) * 10_000, max_tokens=100, stop_at_end=False)
    with suppress(EngineError), Session(config(tiny_model), store=Store(tmp_path)) as session:
        next(session.generate(many, stream=True))
        deadline = time.monotonic() + 20
        while not Run.open(session.feed.folder).workloads and time.monotonic() < deadline:
            time.sleep(0.05)
        session._scribing._scribe.kill()
        os.kill(session._process.pid, signal.SIGKILL)
    assert session.run is not None
    assert session.run.manifest.status == "incomplete"
    assert [Workload.from_dict(asked) for asked in session.run.workloads] == [many]


def test_an_engine_that_dies_while_it_closes_is_an_error_unless_there_is_one_already(
    tiny_model: Path, tmp_path: Path
) -> None:
    for already in (None, ZeroDivisionError("mine")):
        session = Session(config(tiny_model), store=Store(tmp_path)).__enter__()
        os.kill(session._process.pid, signal.SIGSTOP)  # it is told to close, and does not come to it
        timer = threading.Timer(0.5, os.kill, (session._process.pid, signal.SIGKILL))
        timer.start()
        says = r"killed by SIGKILL.* in phase program; most memory then: .*; the run is kept"
        with nullcontext() if already else pytest.raises(EngineError, match=says):
            session.__exit__(None, already, None)
        timer.join()
        assert session.run is not None
        assert session.run.manifest.status == ("failed" if already else "incomplete")


@pytest.mark.parametrize("name", ["reference", "vllm"])
def test_an_engine_that_is_killed_names_phase_and_owners_and_keeps_the_run(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    if name == "vllm":
        pytest.importorskip("vllm")
        limits = Limits(max_sequences=16, max_length=256, kv_budget=KvBudget.parse("64MiB"))
        chosen = EngineConfig(engine=name, limits=limits, graphs=NoGraphs())
    else:
        chosen = config(tiny_model)
    session = Session(chosen, store=Store(tmp_path)).__enter__()
    stream = session.generate(("a",) * 2000, stream=True, max_tokens=100, stop_at_end=False)
    since = time.monotonic()
    while time.monotonic() - since < 1.5:
        next(stream)
    os.kill(session._process.pid, signal.SIGKILL)
    with pytest.raises(
        EngineError, match=r"killed by SIGKILL.* in phase generate; most memory then: .*; the run is kept"
    ):
        list(stream)
    session.__exit__(None, None, None)
    assert session.run is not None
    assert session.run.manifest.status == "incomplete"
    assert len(session.run.table("steps"))
    assert len(session.run.events())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, of this process and of those that it starts."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.mark.parametrize("end", ["closed", "engine killed", "scribe killed too"])
def test_an_engine_leaves_no_temporary_files_however_it_ends(
    end: str, tiny_model: Path, tmp_path: Path, temporary: Path
) -> None:
    """The store in which its process group meets is one of them."""
    with_gloo = replace(config(tiny_model), process_group=Gloo())
    with suppress(EngineError), Session(with_gloo, store=Store(tmp_path)) as session:
        [own] = temporary.iterdir()
        [store] = own.glob("workbench-group-*/store")
        if end == "scribe killed too":
            session._scribing._scribe.kill()
        if end != "closed":
            os.kill(session._process.pid, signal.SIGKILL)
            session.generate("a")
    assert not store.exists()
    assert not list(temporary.iterdir())


def test_an_engine_that_can_not_be_started_says_why_and_ends_the_run(
    tiny_model: Path, tmp_path: Path, temporary: Path
) -> None:
    temporary.rmdir()
    session = Session(config(tiny_model), store=Store(tmp_path))
    with pytest.raises(EngineError, match=rf"process can not be started: .*No such file or directory: '{temporary}/"):
        session.__enter__()
    assert session.run is not None
    assert session.run.manifest.status == "failed"


def test_an_engine_that_fails_says_so_while_it_holds_its_memory(tiny_model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    os.truncate(broken / "model.safetensors", 1000)
    with pytest.raises(EngineError, match=r"can not be read: .* in phase load_weights; most memory then"):
        workbench.generate(config(broken), "a", store=Store(tmp_path / "runs"))
    [run] = Store(tmp_path / "runs").runs()
    assert run.manifest.status == "failed"
    assert run.manifest.error is not None
    assert run.manifest.error["phase"] == "load_weights"


def test_no_engine_outlives_the_program_that_wanted_it(tiny_model: Path, tmp_path: Path) -> None:
    program = (
        "import sys, workbench\n"
        "from workbench import EngineConfig, Session, Store\n"
        "session = Session(EngineConfig(model=sys.argv[1]), store=Store(sys.argv[2])).__enter__()\n"
        "stream = session.generate(('a',) * 2000, stream=True, max_tokens=100, stop_at_end=False)\n"
        "next(stream); print('begun', flush=True); list(stream)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tiny_model), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "begun\n"
        one.kill()
    deadline = time.monotonic() + 20
    while engine_processes(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not engine_processes(tmp_path)
    [run] = Store(tmp_path).runs()
    assert isinstance(run, Run)
