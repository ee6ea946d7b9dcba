"""What programs do to themselves and to their recording, and what must still be true of the run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workbench.kernels import library_path

import workbench
from tests.recording.conftest import record
from workbench.errors import WorkbenchError
from workbench.recorder import settings, wire
from workbench.run.run import Run
from workbench.run.store import Store

MIB = 1 << 20
LIBC = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
"""


def truth_holds(run: Run, phase: str) -> dict[str, int]:
    """Bytes by owner at a phase's end, where at most 5 % of the private memory may be unexplained."""
    phases = run.phases()
    ledger = run.ledger("pageable", int(phases[phases["name"] == phase]["end_ns"].iloc[0]))
    assert ledger.used is not None
    assert ledger.error == 0
    assert abs(ledger.unexplained or 0) <= 0.05 * ledger.used
    return ledger.by_owner()


def test_more_events_than_the_ring_holds_are_all_there(store: Store, tmp_path: Path) -> None:
    pairs = 700_000
    run = record(
        store,
        tmp_path,
        LIBC + f"for _ in range({pairs}):\n    libc.free(libc.malloc(70001))\n",
    )
    assert (run.manifest.status, run.manifest.lost) == ("complete", 0)
    events = run.events()
    assert (events["asked"] == 70001).sum() == 2 * pairs


STAYS = (
    LIBC
    + """
import os, subprocess, sys, time, workbench
from pathlib import Path
kept = bytearray(5 << 20)
Path("began").touch()
while Path(os.environ["WORKBENCH_SPOOL"]).exists():
    time.sleep(0.01)
times = [time.monotonic()]
for _ in range(100_000):
    libc.free(libc.malloc(70001))
    times.append(time.monotonic())
with workbench.phase("late"), workbench.tag("late"):
    later = bytearray(7 << 20)
subprocess.run([sys.executable, "-c", "import numpy; numpy.ones(9 << 20)"], check=True)
if os.fork() == 0:
    os._exit(0)
os.wait()
Path("ended").write_text(str(max(after - before for before, after in zip(times, times[1:]))))
"""
)


def test_what_goes_on_after_the_program_is_unharmed_and_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "stays.py").write_text(STAYS)
    (tmp_path / "elsewhere").mkdir()
    shell = f"cd elsewhere; {sys.executable} ../stays.py & until test -e began; do sleep 0.05; done; echo $!"
    command = [sys.executable, "-m", "workbench", "record", "--out", "runs", "--", "sh", "-c", shell]
    recording = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert recording.stdout is not None
    pid = int(recording.stdout.readline())
    assert recording.wait(30) == 0
    told = f"python3 ({pid}) went on past the program's end, not recorded from there on"
    run = store.open("latest")
    assert (run.manifest.status, run.manifest.lost) == ("complete", 0)
    assert [what.replace("python (", "python3 (") for what in run.manifest.sources["processes"]] == [told]
    events = run.events()
    assert (events["asked"] >= 5 * MIB).any()
    assert not events["asked"].between(6 * MIB, 10 * MIB).any()
    _, err = recording.communicate(timeout=30)  # until the last process has closed them
    assert float((tmp_path / "elsewhere" / "ended").read_text()) < 1.5, "2 s: it waited for its events to be taken"
    assert err.replace("python (", "python3 (") == f"workbench: {told}\n"


def test_what_ends_soon_after_the_program_needs_no_word(store: Store) -> None:
    run = workbench.record_program(["sh", "-c", "sleep 0.2 & exit 0"], store=store)
    assert "processes" not in run.manifest.sources


def test_what_is_lost_is_said(store: Store, tmp_path: Path) -> None:
    text = LIBC + (
        "import os, signal\n"
        "from pathlib import Path\n"
        "run = os.environ['WORKBENCH_RUN'].encode()\n"
        "def scribe():\n"
        "    for path in Path('/proc').glob('[0-9]*/cmdline'):\n"
        "        try: command = path.read_bytes()\n"
        "        except OSError: continue\n"
        "        if b'workbench.recorder.scribe' in command and run in command: return int(path.parent.name)\n"
        "pid = scribe(); os.kill(pid, signal.SIGSTOP)\n"
        "for _ in range(300_000): libc.free(libc.malloc(70001))\n"
        "os.kill(pid, signal.SIGCONT)\n"
    )
    run = record(store, tmp_path, text)
    seen = int((run.events()["asked"] == 70001).sum())
    assert run.manifest.lost > 0
    assert seen + run.manifest.lost >= 600_000


def test_another_program_in_the_same_process_leaves_nothing_of_the_first(store: Store, tmp_path: Path) -> None:
    second = "import workbench\nwith workbench.phase('second'):\n    y = bytearray(30 << 20)\n"
    run = record(
        store,
        tmp_path,
        "import os, sys, workbench\n"
        "with workbench.phase('first'):\n    x = bytearray(100 << 20)\n"
        f"os.execv(sys.executable, [sys.executable, '-c', {second!r}])\n",
    )
    phases = run.phases()
    assert list(phases["name"]).count("program") == 2
    assert phases["end_ns"].notna().all()
    end = int(phases[phases["name"] == "second"]["end_ns"].iloc[0])
    assert run.timeline("pageable").at(end) < 100 * MIB
    assert sum(truth_holds(run, "second").values()) < 80 * MIB


def test_memory_put_into_reserved_addresses_is_held_by_who_reserved_them(store: Store, tmp_path: Path) -> None:
    run = record(
        store,
        tmp_path,
        "import ctypes, workbench\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]\n"
        "with workbench.phase('commit'):\n"
        "    place = libc.mmap(None, 300 << 20, 0, 0x22, -1, 0)\n"
        "    assert libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(200 << 20), 3) == 0\n"
        "    ctypes.memset(place, 1, 200 << 20)\n",
    )
    assert max(truth_holds(run, "commit").values()) >= 200 * MIB


def test_a_child_that_asks_for_nothing_large_is_part_of_the_truth(store: Store, tmp_path: Path) -> None:
    run = record(
        store,
        tmp_path,
        "import os, time, workbench\n"
        "x = bytearray(50 << 20)\n"
        "view = memoryview(x)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    for place in range(0, len(view), 4096): view[place] = 1\n"
        "    time.sleep(1.2)\n    os._exit(0)\n"
        "time.sleep(0.8)\n"
        "with workbench.phase('both'):\n    pass\n"
        "os.waitpid(pid, 0)\n",
    )
    end = int(run.phases().query("name == 'both'")["end_ns"].iloc[0])
    totals = run.table("totals").to_pandas()
    now = totals[(totals["name"] == "private") & (totals["time_ns"] <= end)].groupby("process").last()
    assert len(now) == 2
    assert now["bytes"].max() >= 50 * MIB


def test_a_fork_that_leaves_the_block_does_not_end_its_parents_run(tmp_path: Path) -> None:
    text = (
        "import os, sys, workbench\n"
        "with workbench.recording('parent') as rec:\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n        sys.exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        "    with rec.phase('after'):\n        x = bytearray(5 << 20)\n"
        "print(rec.run.manifest.status)\n"
    )
    environment = os.environ | {"WORKBENCH_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("complete\n", 0), done.stderr
    assert list(Store(tmp_path / "runs").open("latest").phases()["name"]) == ["recording", "after"]


def test_the_program_goes_on_when_the_scribe_is_killed(store: Store, tmp_path: Path) -> None:
    text = (
        "import os, signal, workbench\n"
        "from pathlib import Path\n"
        "run = os.environ['WORKBENCH_RUN'].encode()\n"
        "for path in Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    try: command = path.read_bytes()\n"
        "    except OSError: continue\n"
        "    if b'workbench.recorder.scribe' in command and run in command:\n"
        "        os.kill(int(path.parent.name), signal.SIGKILL)\n"
        "with workbench.phase('on'), workbench.tag('x'):\n    y = bytearray(5 << 20)\n"
        "raise SystemExit(7)\n"
    )
    run = record(store, tmp_path, text)
    assert (run.manifest.status, run.manifest.exit_code) == ("incomplete", 7)
    assert not (run.folder / "spool").exists()


def test_a_line_that_is_no_message_does_not_end_the_recording(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import os, socket, sys\n"
        f"sys.path.insert(0, {str(Path(wire.__file__).parents[2])!r})\n"
        "from pathlib import Path\n"
        "from workbench.recorder.wire import address\n"
        "line = socket.socket(socket.AF_UNIX)\n"
        "line.connect(address(Path(os.environ['WORKBENCH_RUN'])))\n"
        "for text in ('hello', '{}', '[1]', '{\"do\": \"phase\"}', '{\"do\": \"__init__\"}'):\n"
        "    line.sendall(text.encode() + b'\\n')\n"
        "line.close()\n"
        "x = bytearray(9 << 20)\n"
    )
    run = workbench.record_program([sys.executable, str(script)], store=store)
    assert run.manifest.status == "complete"
    assert (run.events()["asked"] >= 9 * MIB).any()


def test_more_processes_than_the_shell_allows_open_files_are_recorded(store: Store) -> None:
    one = "import sys; x = bytearray(3 << 20); print(flush=True); sys.stdin.read()"
    text = (
        "import subprocess, sys\n"
        f"command, pipe = [sys.executable, '-c', {one!r}], subprocess.PIPE\n"
        "made = [subprocess.Popen(command, stdin=pipe, stdout=pipe) for _ in range(14)]\n"
        "for each in made: each.stdout.readline()\n"
        "for each in made: each.communicate()\n"
    )
    limit, out = ["prlimit", "--nofile=26:4096"], ["--out", str(store.folder)]
    record = [*limit, sys.executable, "-m", "workbench", "record", *out, "--"]
    shell = ["sh", "-c", 'ulimit -n 400; exec "$@"', "sh", sys.executable, "-c", text]
    done = subprocess.run([*record, *shell], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    events = store.open("latest").events()
    assert events[events["asked"].between(3 * MIB, 4 * MIB)]["process"].nunique() == 14


@pytest.mark.parametrize("folder", ["My Projects", "a:b"])
def test_a_workbench_whose_path_a_list_would_cut_records(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: str
) -> None:
    away = tmp_path / folder
    shutil.copytree(settings.SITE, away / "site")
    shutil.copy(library_path(), away)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(settings, "library_path", lambda: away / library_path().name)
    monkeypatch.setattr(settings, "SITE", away / "site")
    for _ in range(2):  # makes the links, finds them
        run = record(store, tmp_path, "import workbench\nwith workbench.phase('on'):\n    x = bytearray(9 << 20)\n")
        assert capfd.readouterr().err == ""
        assert (run.events()["asked"] >= 9 * MIB).any()
        assert "on" in set(run.phases()["name"])


def test_where_no_path_would_do_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "a:b"
    monkeypatch.setattr(settings, "SITE", cut)
    for cache, said in ((cut, "and has none of ':'"), (Path("/proc/none"), "set XDG_CACHE_HOME")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        with pytest.raises(WorkbenchError, match=said):
            settings.Settings().environment(tmp_path)


def test_a_program_that_loads_no_libraries_is_not_passed_off_as_recorded(store: Store, tmp_path: Path) -> None:
    source, program = tmp_path / "still.c", tmp_path / "still"
    source.write_text("int main(void) { return 0; }\n")
    built = subprocess.run(["gcc", "-static", "-o", str(program), str(source)], capture_output=True, check=False)
    if built.returncode:
        pytest.skip("gcc has no static libc here")
    run = workbench.record_program([str(program)], store=store)
    assert run.manifest.sources["host"][0].startswith("off: ")


GROWS = """
import mmap, tempfile
with tempfile.TemporaryFile() as file:
    file.truncate(3 << 20)
    mapped = mmap.mmap(file.fileno(), 1 << 20)
    mapped.resize(3 << 20)
"""


def test_a_mapped_file_that_grows_is_a_file_all_the_same(store: Store, tmp_path: Path) -> None:
    events = record(store, tmp_path, GROWS).events()
    taken = events[(events["kind"] == "alloc") & (events["bytes"] == 3 * MIB)]
    assert taken["tag"].tolist() == ["file"]
