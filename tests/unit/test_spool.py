from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.unit.spooled import read, run_python
from workbench.errors import RunError, WorkbenchError
from workbench.recorder import native
from workbench.recorder.native import Names, Spool
from workbench.recorder.rings import RECORD, Records, Ring, rings, write

CAPACITY = 1 << 16


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """The spool of this process, with no hook in effect: only what a test writes is in it."""
    opened = Spool()
    opened.open(tmp_path, 1 << 16)
    yield opened
    opened.close()


def records(count: int, thread: int = 1) -> Records:
    made: Records = np.zeros(count, RECORD)
    made["kind"], made["layer"], made["tier"], made["thread"] = native.ALLOC, native.DRIVER, native.GPU, thread
    made["address"] = np.arange(count)
    return made


def ring_in(folder: Path) -> Ring:
    [path] = folder.glob("*.ring")
    return Ring(path)


def test_a_record_is_read_as_it_was_written(spool: Spool, tmp_path: Path) -> None:
    made = np.zeros(1, RECORD)
    for place, field in enumerate(RECORD.names or ()):
        made[field] = 100 + place
    write(made)
    assert ring_in(tmp_path).drain(10).tolist() == made.tolist()


def test_four_threads_lose_nothing_and_keep_their_order(spool: Spool, tmp_path: Path) -> None:
    each, parts = 100_000, []
    write(records(1, thread=9))
    ring = ring_in(tmp_path)

    def work(thread: int) -> None:
        rows = records(each, thread)
        for at in range(0, each, 50):
            write(rows[at : at + 50])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        parts.append(ring.drain(1000))
    while len(part := ring.drain(1 << 16)):
        parts.append(part)
    drained = np.concatenate(parts)
    assert len(drained) == 4 * each + 1
    assert ring.lost == 0
    for number in range(4):
        assert np.array_equal(drained["address"][drained["thread"] == number], np.arange(each))


def test_a_full_ring_drops_counts_and_goes_on(spool: Spool, tmp_path: Path) -> None:
    started = time.monotonic()
    write(records(CAPACITY + 1000))
    assert 0.09 < time.monotonic() - started < 5, "it waits for the scribe once, not at every event"
    ring = ring_in(tmp_path)
    assert (ring.lost, spool.lost()) == (1000, 1000)
    kept = ring.drain(CAPACITY)
    assert np.array_equal(kept["address"], np.arange(CAPACITY))
    write(records(5))
    assert len(ring.drain(10)) == 5
    assert ring.lost == 1000


def test_a_writer_waits_for_a_scribe_that_is_a_little_late(spool: Spool, tmp_path: Path) -> None:
    write(records(CAPACITY))
    ring = ring_in(tmp_path)
    late = threading.Timer(0.03, ring.drain, (1000,))
    late.start()
    write(records(10))
    late.join()
    assert ring.lost == 0


def test_slots_of_dead_writers_are_stepped_over(spool: Spool, tmp_path: Path) -> None:
    unwritten = records(1)
    unwritten["kind"] = 0  # as of a thread that died between claiming its slot and committing it
    write(np.concatenate([records(2), unwritten, records(3)]))
    ring = ring_in(tmp_path)
    assert len(ring.drain(10)) == 2
    assert len(ring.drain(10)) == 0
    assert len(ring.drain(10, skip=True)) == 3
    assert (ring.lost, ring.tail) == (1, ring.head)


def test_names_are_defined_before_they_are_used_and_once(spool: Spool, tmp_path: Path) -> None:
    ids = [spool.name(text) for text in ("libnccl.so.2", "Gewichte äöü", "libnccl.so.2")]
    assert ids[0] == ids[2] != ids[1]
    made = records(3)
    made["owner"] = ids
    write(made)
    names = Names(next(tmp_path.glob("*.ring")).with_suffix(".names"))
    assert [(each.id, each.text) for each in names.read_new()] == [(ids[0], "libnccl.so.2"), (ids[1], "Gewichte äöü")]
    assert names.read_new() == []


def test_names_from_many_threads_are_the_same(spool: Spool) -> None:
    found: list[list[int]] = []

    def work() -> None:
        found.append([spool.name(f"name {number}") for number in range(300)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(found[0]) == 4
    assert len(set(found[0])) == 300
    assert max(found[0]) < 1 << 16


def test_an_incomplete_definition_stays_for_the_next_call(tmp_path: Path) -> None:
    path = tmp_path / "1-1.names"
    whole = b"".join(np.array([native.NAME, i, 3], "<u4").tobytes() + b"abc" for i in (1, 2))
    names = Names(path)
    assert names.read_new() == []
    path.write_bytes(whole[:20])
    assert [each.id for each in names.read_new()] == [1]
    path.write_bytes(whole)
    assert [each.id for each in names.read_new()] == [2]


@pytest.mark.parametrize("content", [b"", b"x" * 5000, bytes(4096 + CAPACITY * 64)])
def test_a_foreign_ring_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1-1.ring"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a ring"):
        Ring(path)


def test_rings_are_in_the_order_in_which_their_processes_began(tmp_path: Path) -> None:
    begun = ["10000-5.ring", "9999-17.ring", "100-200.ring"]
    for name in reversed(begun):
        (tmp_path / name).touch()
    assert [path.name for path in rings(tmp_path)] == begun


def test_a_damaged_definition_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1-1.names"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(RunError, match="damaged at byte 0"):
        Names(path).read_new()


def test_one_recording_at_a_time(spool: Spool, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Spool().open(tmp_path, 1 << 16)
    with pytest.raises(WorkbenchError, match="end that recording first"):
        Spool().open(other, 1 << 16)
    spool.close()
    Spool().open(other, 1 << 16)
    write(records(1))
    assert ring_in(other).head == 1


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="No such file"):
        Spool().open(tmp_path / "gone", 1 << 16)


def test_a_tag_belongs_to_its_thread_and_outlives_a_fork(tmp_path: Path) -> None:
    script = """
import ctypes, os, threading
from workbench.recorder.native import Spool
libc = ctypes.CDLL(None)
spool = Spool()
with spool.tagged("weights"):
    libc.malloc(200_001)
    thread = threading.Thread(target=libc.malloc, args=(200_002,))
    thread.start(), thread.join()
    if os.fork() == 0:
        libc.malloc(200_003)
        os._exit(0)
    os.wait()
libc.malloc(200_004)
"""
    run_python(script, tmp_path / "spool")
    tags = {event.asked: event.tag for process in read(tmp_path / "spool") for event in process.events}
    assert [tags[200_000 + i] for i in (1, 2, 3, 4)] == ["weights", "", "weights", ""]


STACKS = """
import sys, traceback, threading
from pathlib import Path
from workbench.recorder.native import Spool
spool = Spool()

def compare():
    pair = spool.python_stack(), traceback.extract_stack()
    return pair

pairs = []
def nested(depth):
    if depth:
        return nested(depth - 1)
    pairs.append(compare())

def generator():
    pairs.append(compare())
    yield 1
    (lambda: pairs.append(
        compare()))()
    yield 2

class Größe:
    def method(self, *arguments):
        return [pairs.append(compare()) for _ in range(2)]

    async def coroutine(self):
        pairs.append(compare())

    def __lt__(self, other):
        pairs.append(
            compare()
        )
        return True

for depth in (0, 1, 10, 100):
    nested(depth)
list(generator())
Größe().method()
sorted([Größe(), Größe()])
list(map(nested, [0, 3]))
{pairs.append(compare()): 1 for _ in "a"}
try:
    Größe().coroutine().send(None)
except StopIteration:
    pass
exec(compile("\\n" * 70000 + "nested(0)", "far.py", "exec"))
thread = threading.Thread(target=nested, args=(2,))
thread.start(), thread.join()

frames = {each.id: each.text.split("\\0") for each in spool.definitions() if each.kind == 2}
stacks = {each.id: each.numbers for each in spool.definitions() if each.kind == 3}
for stack, expected in pairs:
    # Ours begins in the method that asks; traceback knows a function by its last name.
    ours = [(file, name.rpartition(".")[2], int(line)) for file, name, line in map(frames.get, stacks[stack])][1:]
    theirs = [(frame.filename, frame.name, frame.lineno) for frame in reversed(expected)]
    assert ours == theirs[:63], (ours, theirs)
assert ["Größe.method"] == sorted({name for _, name, _ in frames.values() if name == "Größe.method"})
print(len(pairs), max(len(numbers) for numbers in stacks.values()), spool.keep_stacks("large"))
"""


def test_stacks_are_those_of_traceback(tmp_path: Path) -> None:
    assert run_python(STACKS, tmp_path / "spool").split(" ", 2) == ["15", "64", "[]\n"]


def test_code_that_took_the_place_of_other_code_is_told_apart(tmp_path: Path) -> None:
    script = """
from workbench.recorder.native import Spool
spool = Spool()
stacks = []
for number in range(500):
    scope = {"spool": spool}
    exec(compile(f"def function_{number}(): return spool.python_stack()", f"file_{number}.py", "exec"), scope)
    stacks.append(scope[f"function_{number}"]())
frames = {each.id: each.text for each in spool.definitions() if each.kind == 2}
kept = {each.id: each.numbers for each in spool.definitions() if each.kind == 3}
print([frames[kept[stack][1]] for stack in stacks] == [f"file_{n}.py\\0function_{n}\\x001" for n in range(500)])
"""
    assert run_python(script, tmp_path / "spool") == "True\n"


def test_a_walker_that_errs_is_turned_off(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spool.keep_stacks("large") == []
    monkeypatch.setattr(native, "_frames_from", lambda frame, line: ["another\0frame\x001"])
    assert spool.keep_stacks("large") == ["no Python stacks: what was read differs from Python's frames"]


def test_a_killed_process_leaves_what_it_recorded(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from tests.unit.test_spool import records
from workbench.recorder.native import Spool
from workbench.recorder.rings import write
spool = Spool()
spool.open(Path({str(tmp_path)!r}), 65536)
write(records(12345))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert len(ring_in(tmp_path).drain(CAPACITY)) == 12345
