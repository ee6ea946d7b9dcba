"""What an engine keeps outside its run: listed while it lives, removed when it can not do so itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from workbench.launch.processes import end_group
from workbench.recorder import outside
from workbench.recorder.settings import SPOOL

SHARED = Path("/dev/shm")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder that this process is recorded into, as far as it knows."""
    (tmp_path / "run" / SPOOL).mkdir(parents=True)
    (tmp_path / "temporary [of mine]").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary [of mine]"))
    monkeypatch.setenv("WORKBENCH_SPOOL", str(tmp_path / "run" / SPOOL))
    return tmp_path / "run"


def test_temporary_files_go_and_what_was_compiled_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # torch sets it where it has compiled in this process
    told = outside.environment(folder)
    temporary = Path(told["TMPDIR"])
    assert temporary.stat().st_mode & 0o777 == 0o700
    (temporary / "deep").mkdir()
    (temporary / "deep" / "file").touch()
    compiled = Path(told["TORCHINDUCTOR_CACHE_DIR"])
    compiled.mkdir()
    outside.remove(folder)
    assert list(temporary.parent.iterdir()) == [compiled]


def test_an_engine_finds_what_torch_compiled_without_the_workbench(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert outside.environment(folder)["TORCHINDUCTOR_CACHE_DIR"] == default_cache_dir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/kept")
    assert outside.environment(folder)["TORCHINDUCTOR_CACHE_DIR"] == "/kept"


def test_shared_memory_goes_by_how_its_name_begins(folder: Path) -> None:
    mine, other = (SHARED / f"workbench_{os.getpid()}_{name}-tp:0-[0-1]_0" for name in ("mine", "other"))
    other.touch()
    try:
        outside.claim_shared_memory(f"workbench_{os.getpid()}_mine")
        outside.claim_shared_memory("")
        mine.touch()
        outside.remove(folder)
        assert not mine.exists()
        assert other.exists()
    finally:
        other.unlink()


def test_what_a_killed_group_of_processes_shared_goes(folder: Path) -> None:
    """Killed all at once, Python's own process that looks after shared memory among them."""
    program = (
        "import time\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "from workbench.recorder import outside\n"
        "kept = SharedMemory(create=True, size=1 << 20)\n"
        "outside.claim_mapped_memory()\n"
        "print(kept.name, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        shared = SHARED / process.stdout.readline().decode().strip()
        assert shared.stat().st_size == 1 << 20
        os.killpg(process.pid, signal.SIGKILL)
    assert shared.exists()
    outside.remove(folder)
    assert not shared.exists()


def test_what_can_not_be_removed_keeps_nothing_else(folder: Path) -> None:
    (folder / SPOOL / "outside").write_text("/proc/self/status\n")  # not even root's to remove
    temporary = Path(outside.environment(folder)["TMPDIR"])
    outside.remove(folder)
    assert not temporary.exists()


def test_a_run_that_lists_nothing_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside.remove(folder)
    monkeypatch.delenv("WORKBENCH_SPOOL")
    outside.claim_shared_memory("something")
    assert not list((folder / SPOOL).iterdir())


@pytest.mark.parametrize("dies", ["by itself", "when it is asked to", "when it is killed"])
def test_a_process_ends_with_those_that_it_started(dies: str) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if dies == "when it is killed" else "pass"
    then = "sys.exit(3)" if dies == "by itself" else "time.sleep(60)"
    program = (
        f"import os, signal, sys, time\n{deaf}\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(60)\n"
        f"print(child, flush=True)\n{then}\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        if dies == "by itself":
            process.wait()
        code = end_group(process, 0.5)
    assert code == {"by itself": 3, "when it is asked to": -signal.SIGTERM, "when it is killed": -signal.SIGKILL}[dies]
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
