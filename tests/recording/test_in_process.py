"""A program records its own code; each in a process of its own, since one that is recorded stays so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workbench.run.run import Run
from workbench.run.store import Store


def run_python(text: str, home: Path) -> Any:
    """Run a program in its own home; returns the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"WORKBENCH_HOME": str(home), "IPYTHONDIR": str(home / "ipython")},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def latest(home: Path) -> Run:
    return Store(home / "runs").open("latest")


TWICE = """
import json, numpy, workbench
before = numpy.ones(30 << 20, numpy.uint8)
runs = []
for size in (5, 7):
    with workbench.recording(f"mine-{size}") as rec:
        with rec.phase("fill"), rec.tag("cache"):
            mine = numpy.ones(size << 20, numpy.uint8)
        rec.tokens(0, 0, 3)
    runs.append(rec.run.id)
after = numpy.ones(9 << 20, numpy.uint8)
print(json.dumps(runs))
"""


def test_the_block_is_recorded_and_nothing_around_it_and_again(tmp_path: Path) -> None:
    runs = run_python(TWICE, tmp_path)
    for name, size in zip(runs, (5, 7), strict=True):
        run = Store(tmp_path / "runs").open(name)
        assert run.manifest.status == "complete"
        events = run.events()
        asked = set(events[events["kind"] == "alloc"]["asked"].floordiv(1 << 20))
        assert size in asked
        assert not asked & {30, 9}
        assert events[events["asked"] == size << 20]["tag"].iloc[0] == "cache"
        assert list(run.phases()["name"]) == ["recording", "fill"]
        assert run.table("tokens").to_pylist()[0]["count"] == 3
        assert any("before the recording began" in limit for limit in run.manifest.sources["host"])


COPIES = """
import json, time, workbench
from workbench.recorder import recorder
from workbench.recorder.probe import DEVICE_TO_HOST, HOST_TO_DEVICE, Copy
start = time.monotonic_ns()
with workbench.recording("copies"):
    probe = recorder.current()
    for number in range(10_000):
        called = start + number
        times = called - 5000, called, 7, called + 100, called + 200
        probe.copy(Copy(HOST_TO_DEVICE, 4096, 0, 0x70000000 + number, *times))
    late = start + 10_000
    probe.copy(Copy(DEVICE_TO_HOST, 1 << 33, 1, 5, late - 10**10, late, 10**10, late + 1000, late + 2000))
print(json.dumps(start))
"""


def test_who_makes_copies_tells_of_them(tmp_path: Path) -> None:
    start = run_python(COPIES, tmp_path)
    run = latest(tmp_path)
    copies = run.table("copies").to_pandas()
    assert len(copies) == 10_001
    assert run.manifest.lost == 0
    first = start - run.manifest.started_ns
    copies = copies.sort_values("handed_ns")  # the last one was submitted long before the others
    assert copies["handed_ns"].tolist() == list(range(first, first + 10_001))
    assert (copies["handed_ns"] - copies["time_ns"]).tolist() == [5000] * 10_000 + [10**10]
    assert (copies["start_ns"] - copies["handed_ns"])[:10_000].eq(100).all()
    assert (copies["end_ns"] - copies["handed_ns"])[:10_000].eq(200).all()
    assert copies["stream"].nunique() == 10_001
    assert copies["call_ns"].tolist() == [7] * 10_000 + [(1 << 32) - 1]  # longer ones are told as the longest
    assert copies.iloc[-1][["direction", "bytes", "device"]].tolist() == ["device to host", 1 << 33, 1]


def test_an_exception_passes_through_and_the_run_says_so(tmp_path: Path) -> None:
    text = (
        "import json, workbench\n"
        "try:\n    with workbench.recording('bad'):\n        raise ValueError('no such thing')\n"
        "except ValueError as error:\n    print(json.dumps(str(error)))\n"
    )
    assert run_python(text, tmp_path) == "no such thing"
    manifest = latest(tmp_path).manifest
    assert (manifest.status, manifest.error["what"]) == ("failed", "ValueError: no such thing")  # type: ignore[index]


def test_a_recording_inside_a_recording_is_refused_in_one_line(tmp_path: Path) -> None:
    text = (
        "import json, workbench\n"
        "with workbench.recording('outer'):\n"
        "    try:\n        with workbench.recording('inner'):\n            pass\n"
        "    except workbench.WorkbenchError as error:\n        print(json.dumps(str(error)))\n"
    )
    assert "is being recorded into" in run_python(text, tmp_path)
    assert [run.manifest.name for run in Store(tmp_path / "runs").runs()] == ["outer"]


BEFORE = """
import json, numpy, workbench
kept, given_back = (numpy.ones(n << 20, numpy.uint8) for n in (70, 90))
with workbench.recording("late") as rec:
    with rec.phase("mine"):
        mine = numpy.ones(40 << 20, numpy.uint8)
        del given_back
print(json.dumps(rec.run.id))
"""


def test_what_is_held_since_before_is_an_owner_of_its_own(tmp_path: Path) -> None:
    run = Store(tmp_path / "runs").open(run_python(BEFORE, tmp_path))
    phases = run.table("phases").to_pylist()
    edges = sorted(time for phase in phases for time in (phase["start_ns"], phase["end_ns"]))
    ledgers = [run.ledger("pageable", edge) for edge in edges]
    assert all(abs(ledger.unexplained or 0) <= 0.05 * (ledger.used or 0) for ledger in ledgers)
    first, *_, last = (ledger.by_owner()["before the run"] for ledger in ledgers)
    assert first >= 160 << 20
    assert first - last == pytest.approx(90 << 20, rel=0.05)


MAGIC = """
import json
from IPython.testing.globalipapp import start_ipython
shell = start_ipython()
shell.run_line_magic("load_ext", "workbench")
cell = "import numpy\\nwith rec.phase('mine'):\\n    x = numpy.ones(6 << 20, numpy.uint8)"
run = shell.run_cell_magic("record", "cell run", cell)
print(json.dumps([run.id, run.manifest.name, int(shell.user_ns["x"].sum())]))
"""


def test_the_magic_records_a_cell(tmp_path: Path) -> None:
    run_id, name, total = run_python(MAGIC, tmp_path)
    assert (name, total) == ("cell run", 6 << 20)
    run = Store(tmp_path / "runs").open(run_id)
    assert list(run.phases()["name"]) == ["recording", "mine"]
    assert (run.events()["asked"] == 6 << 20).any()


FAILING_MAGIC = """
import json
from IPython.testing.globalipapp import start_ipython
shell = start_ipython()
shell.run_line_magic("load_ext", "workbench")
shown = []
shell._showtraceback = lambda kind, error, lines: shown.append(kind.__name__)
done = [shell.run_cell("%%record\\n" + cell) for cell in ("1 / 0", "1 +")]
print(json.dumps([shown, [type(one.error_in_exec).__name__ for one in done]]))
"""


def test_an_error_under_the_magic_is_shown_once(tmp_path: Path) -> None:
    errors = ["ZeroDivisionError", "SyntaxError"]
    assert run_python(FAILING_MAGIC, tmp_path) == [errors, errors]
    assert [run.manifest.status for run in Store(tmp_path / "runs").runs()] == ["failed"] * 2


def test_threads_tag_their_own(tmp_path: Path) -> None:
    text = (
        "import json, threading, numpy, workbench\n"
        "kept = []\n"
        "with workbench.recording('threads') as rec:\n"
        "    def work(n):\n"
        "        with rec.tag(f'tag {n}'):\n"
        "            for _ in range(20):\n                kept.append(numpy.ones((n << 20) + 1, numpy.uint8))\n"
        "    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3)]\n"
        "    [t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(json.dumps(1))\n"
    )
    run_python(text, tmp_path)
    events = latest(tmp_path).events()
    for number in (1, 2, 3):
        mine = events[(events["asked"] == (number << 20) + 1) & (events["kind"] == "alloc")]
        assert set(mine["tag"]) == {f"tag {number}"}
        assert len(mine) == 20


@pytest.mark.parametrize(("size", "owner"), [("1 << 50", "_multiarray_umath")])
def test_running_out_of_host_memory_keeps_what_was_alive(tmp_path: Path, size: str, owner: str) -> None:
    text = (
        "import json, numpy, workbench\n"
        "with workbench.recording('short') as rec, rec.phase('fill'):\n"
        "    kept = numpy.ones(50 << 20, numpy.uint8)\n"
        f"    try:\n        numpy.empty({size}, numpy.uint8)\n    except MemoryError:\n        print(json.dumps(1))\n"
    )
    run_python(text, tmp_path)
    [shortage] = latest(tmp_path).manifest.shortages
    assert (shortage["tier"], shortage["phase"]) == ("pageable", "fill")
    assert shortage["what"].startswith(owner)
    name, held = next(iter(shortage["alive"]["pageable"].items()))
    assert name.startswith(owner)
    assert held == pytest.approx(50 << 20, rel=0.01)
