"""Real programs are recorded, in processes of their own, and held to what the kernel says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import workbench
from tests.recording.conftest import record
from workbench.errors import CommandError, RunError
from workbench.launch.recording import Scribing, create
from workbench.run.folder import is_locked
from workbench.run.run import Run
from workbench.run.store import Store

MIB = 1 << 20


NUMPY = """
import numpy, workbench
with workbench.phase("fill"):
    with workbench.tag("weights"):
        weights = numpy.ones(40 << 20, numpy.uint8)
    cache = [numpy.ones(1 << 20, numpy.uint8) for _ in range(16)]
with workbench.phase("empty"):
    untouched = numpy.empty(64 << 20, numpy.uint8)
    del cache
"""


def test_a_program_is_recorded_and_agrees_with_the_kernel(store: Store, tmp_path: Path) -> None:
    run = record(store, tmp_path, NUMPY)
    assert (run.manifest.status, run.manifest.exit_code, run.manifest.lost) == ("complete", 0, 0)
    phases = run.phases().set_index("name")
    assert list(phases.index) == ["program", "fill", "empty"]
    events = run.events()
    mine = events[events["owner"].str.startswith("_multiarray_umath") & (events["kind"] == "alloc")]
    assert sorted(mine["asked"])[-18:] == [1 * MIB] * 16 + [40 * MIB, 64 * MIB]
    assert mine[mine["tag"] == "weights"]["asked"].tolist() == [40 * MIB]
    for moment in (phases.loc["fill", "end_ns"], phases.loc["empty", "end_ns"]):
        ledger = run.ledger("pageable", int(moment))
        assert ledger.used is not None
        assert abs(ledger.unexplained or 0) <= 0.05 * ledger.used
    held = {
        (e.owner.split(".")[0], e.tag): e.bytes
        for e in run.ledger("pageable", int(phases.loc["fill", "end_ns"])).entries
    }
    assert held["_multiarray_umath", "weights"] == pytest.approx(40 * MIB, abs=16 * 1024)
    after = {
        (e.owner.split(".")[0], e.tag): e.bytes
        for e in run.ledger("pageable", int(phases.loc["empty", "end_ns"])).entries
    }
    assert after.get(("_multiarray_umath", None), 0) < 2 * MIB, "memory that was never touched is not held"


def test_stacks_name_the_line_that_asked(store: Store, tmp_path: Path) -> None:
    run = record(
        store, tmp_path, "import numpy\ndef make():\n    return numpy.ones(9 << 20, numpy.uint8)\nx = make()\n"
    )
    events = run.events()
    [stack] = events[(events["asked"] == 9 * MIB) & (events["kind"] == "alloc")]["stack"]
    frames = run.stack(int(stack))
    script = str(tmp_path / "program.py")
    assert [frame for frame in frames if frame.startswith(script)] == [f"{script}:3 make", f"{script}:4 <module>"]


def test_children_are_recorded_and_give_their_memory_back(store: Store, tmp_path: Path) -> None:
    run = record(
        store,
        tmp_path,
        "import multiprocessing as m, os, subprocess, sys\n"
        "def child(n):\n    x = bytearray(n << 20)\n    x[:] = b'1' * len(x)\n"
        "if __name__ == '__main__':\n"
        "    for how in ('fork', 'spawn'):\n"
        "        p = m.get_context(how).Process(target=child, args=(11,))\n"
        "        p.start(); p.join(); assert p.exitcode == 0\n"
        "    subprocess.run([sys.executable, '-c', 'x = bytearray(13 << 20)'], check=True)\n"
        "    import time; time.sleep(0.6)\n",
    )
    events = run.events()
    large = events[(events["kind"] == "alloc") & (events["asked"].between(11 * MIB, 14 * MIB))]
    assert large["process"].nunique() == 3
    assert set(large["asked"] // MIB) == {11, 13}
    for process, of_process in events[events["process"].isin(large["process"])].groupby("process"):
        change = of_process["bytes"].where(of_process["kind"] == "alloc", -of_process["bytes"]).sum()
        assert change == 0, f"process {process} is gone and still holds memory"


SHORT = """
import mmap, workbench
for _ in range(20):
    with workbench.phase("short"), workbench.tag("taken"):
        taken = mmap.mmap(-1, 1 << 18)
        taken.write(bytes(1 << 18))
    with workbench.phase("given back"):
        taken.close()
"""


def test_who_is_gone_at_a_phase_s_edge_holds_nothing_there(store: Store, tmp_path: Path) -> None:
    run = record(
        store,
        tmp_path,
        """
import subprocess, sys, workbench
for _ in range(3):
    subprocess.run([sys.executable, "-c", "bytearray(90 << 20)"])
    with workbench.phase("after"):
        pass
""",
    )
    events = run.events()
    children = events[(events["process"] != events["process"].iloc[0]) & (events["kind"] == "free")]
    ends = children.groupby("process")["time_ns"].max().sort_values().tolist()
    edges = run.phases().query("name == 'after'")["start_ns"].tolist()
    assert len(ends) == 3
    assert all(end <= edge for end, edge in zip(ends, edges, strict=True))


def test_what_a_short_phase_took_is_in_its_ledger(store: Store, tmp_path: Path) -> None:
    run = record(store, tmp_path, SHORT)
    held: dict[str, list[int]] = {"short": [], "given back": []}
    for phase in run.table("phases").to_pylist():
        if phase["name"] in held:
            ledger = run.ledger("pageable", phase["end_ns"])
            held[phase["name"]].append(sum(entry.bytes for entry in ledger.entries if entry.tag == "taken"))
    assert held == {"short": [1 << 18] * 20, "given back": [0] * 20}


def test_an_exit_code_is_kept_and_passed_on(store: Store, tmp_path: Path) -> None:
    run = record(store, tmp_path, "raise SystemExit(3)\n")
    assert (run.manifest.status, run.manifest.exit_code) == ("failed", 3)


def test_a_program_that_can_not_be_started_leaves_one_line_and_no_run(store: Store, tmp_path: Path) -> None:
    for command, code in (("/nonesuch", 127), (str(tmp_path), 126)):
        with pytest.raises(CommandError, match=f"{command} can not be started") as caught:
            workbench.record_program([command], store=store)
        assert caught.value.exit_code == code
    assert list(store.folder.iterdir()) == []


def test_a_kill_loses_at_most_the_last_second(store: Store, tmp_path: Path) -> None:
    text = (
        "import os, signal, time, numpy\n"
        "kept = []\n"
        "end = time.monotonic() + 1.5\n"
        "while time.monotonic() < end:\n    kept.append(numpy.ones(1 << 17, numpy.uint8)); time.sleep(0.001)\n"
        "print(len(kept), time.monotonic_ns(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = record(store, tmp_path, text)
    assert (run.manifest.status, run.manifest.exit_code) == ("incomplete", 137)
    assert "SIGKILL" in str(run.manifest.error)
    events = run.events()
    kept = events[(events["asked"] == 1 << 17) & (events["kind"] == "alloc")]
    assert len(kept) > 500
    assert run.table("phases")["end_ns"].null_count == 1, "the phase that the kill cut off is open"


def test_all_processes_killed_at_once_leave_a_run_that_opens_incomplete(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import time, numpy\nkept = []\nprint('on', flush=True)\n"
        "while True:\n    kept.append(numpy.ones(1 << 17, numpy.uint8)); time.sleep(0.001)\n"
    )
    command = [
        sys.executable,
        "-m",
        "workbench",
        "record",
        "--out",
        str(store.folder),
        "--",
        sys.executable,
        str(script),
    ]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    parent.stdout.readline()
    time.sleep(2.0)
    [folder] = store.folder.iterdir()
    for process in (parent.pid, *_processes_of(folder)):
        os.kill(process, signal.SIGKILL)
    killed = time.time()
    parent.wait()
    _wait_for(lambda: not is_locked(folder))
    run = Run.open(folder)
    assert run.manifest.status == "incomplete"
    assert "its scribe was killed" in str(run.manifest.error)
    assert run.manifest.counts["events"] == len(run.events()) > 500
    assert (run.manifest.duration_s or 0) > 1
    last_s = run.table("events")["time_ns"].to_numpy().max() / 1e9
    assert (folder / "lock").stat().st_mtime + last_s > killed - 1.5


def _wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def _processes_of(folder: Path) -> list[int]:
    """The scribe of a run, and what it records."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in text:
            found.append(int(path.name))
    return found


ASKS_TWICE = (
    "import numpy, torch\n"
    "kept = numpy.ones(21 << 20, numpy.uint8), torch.ones(22 << 20, dtype=torch.uint8)\n"
    "import mmap; kept += (mmap.mmap(-1, 23 << 20),)\n"
)
OF_TORCH, OF_OTHERS = ("torch", 22), {("others", 21), ("others", 23)}  # MiB


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ((), {OF_TORCH} | OF_OTHERS),
        (("host",), {OF_TORCH}),
        (("torch",), {("others", 22)} | OF_OTHERS),
        (("host", "torch"), set()),
    ],
)
@pytest.mark.parametrize("is_late", [False, True], ids=["from-the-start", "late"])
def test_a_source_that_is_left_out_records_nothing(
    store: Store, tmp_path: Path, without: tuple[str, ...], expected: set[tuple[str, int]], is_late: bool
) -> None:
    script = tmp_path / "program.py"
    if is_late:
        block = "".join(f"    {line}\n" for line in ASKS_TWICE.splitlines())
        script.write_text(
            "import numpy, torch, workbench\n"
            f"with workbench.recording('late', workbench.Store({str(store.folder)!r}), "
            f"workbench.Settings(without={without})):\n{block}"
        )
        subprocess.run([sys.executable, str(script)], check=True)
    else:
        script.write_text(ASKS_TWICE)
        workbench.record_program(
            [sys.executable, str(script)], store=store, settings=workbench.Settings(without=without)
        )
    [run] = store.runs()
    events = run.events()
    large = events[(events.kind == "alloc") & events.asked.isin([size * MIB for size in (21, 22, 23)])]
    found = zip(large.owner, large.asked // MIB, strict=True)
    assert {("torch" if owner == "torch" else "others", size) for owner, size in found} == expected
    if {"host", "torch"} <= set(without):
        assert len(events) == 0
    for source in without:
        assert run.manifest.sources[source] == ["off: left out on request"]


def test_two_writers_of_one_run_are_refused(store: Store) -> None:
    folder = create("twice", store)
    first = Scribing(folder)
    with pytest.raises(RunError, match="is being written by another recording"):
        Scribing(folder)
    assert first.finish("complete").manifest.status == "complete"


def test_a_scribe_whose_caller_dies_before_it_says_a_word_ends_too(store: Store) -> None:
    text = (
        "import os, sys, workbench.launch.recording as r\n"
        f"folder = r.create('orphan', r.Store({str(store.folder)!r}))\n"
        "r.start_scribe(folder)\nos._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True)
    [folder] = store.folder.iterdir()
    _wait_for(lambda: not is_locked(folder))
    assert Run.open(folder).manifest.status == "incomplete"


def test_a_feed_follows_a_run_while_it_is_written(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import time, numpy\nx = numpy.ones(21 << 20, numpy.uint8)\ntime.sleep(1.5)\n")
    command = [sys.executable, "-m", "workbench", "record", "--json", "--out", str(store.folder), "--"]
    parent = subprocess.Popen([*command, sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    _wait_for(lambda: list(store.folder.glob("*/events.arrow")))
    [folder] = store.folder.iterdir()
    feed, seen = workbench.Feed(folder), []
    while feed.is_live:
        seen += feed.new("events")["asked"].to_pylist()
        time.sleep(0.1)
        if 21 * MIB in seen:
            break
    assert 21 * MIB in seen, "it was written while the run went on"
    assert feed.is_live
    out, _ = parent.communicate(timeout=30)
    assert json.loads(out)["run"] == folder.name
    assert not feed.is_live


@pytest.mark.parametrize("size", ["1m", "64m"])  # full at the first ring, and when the program has filled it
def test_a_full_disk_ends_the_recording_in_one_line_and_not_the_program(tmp_path: Path, size: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("only root can mount the small disk that this needs")
    try:
        script = tmp_path / "program.py"
        script.write_text(
            "import time, numpy\nx = [numpy.ones(21 << 20, numpy.uint8)]\ntime.sleep(1.6)\n"
            f"try:\n    open({str(small / 'filler')!r}, 'wb').write(bytes(64 << 20))\nexcept OSError:\n    pass\n"
            "for i in range(300):\n    x.append(numpy.ones(1 << 17, numpy.uint8)); time.sleep(0.005)\n"
            "print('went on')\n"
        )
        command = [sys.executable, "-m", "workbench", "record", "--out", str(small), "--", sys.executable, str(script)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "went on" in done.stdout
        assert done.returncode == 1
        assert "is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("is full") == 1
        [run] = Store(small).runs()
        assert f"recorded {len(run.events())} events in" in done.stdout
        assert (run.manifest.status, run.manifest.counts["totals"]) == ("incomplete", run.table("totals").num_rows)
        if size != "1m":
            assert min(run.manifest.counts["events"], run.manifest.counts["totals"]) > 0
            assert (run.manifest.duration_s or 0) > 1
        assert not [*small.glob("*/*.tmp"), *small.glob("*/lock"), *small.glob("*/spool")]
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)  # tables of the run are mapped
