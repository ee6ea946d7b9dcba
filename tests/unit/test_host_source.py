from __future__ import annotations

import ctypes.util
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from workbench.kernels import library_path

from tests.unit.spooled import Event, Process, built, environment, read, run, run_python
from workbench.recorder import native
from workbench.recorder.rings import Ring

NUMPY = "_multiarray_umath."
KEEP = "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p\n"


def lines(events: list[Event]) -> list[str]:
    return [
        f"alloc {event.address} {event.bytes} {event.asked}"
        if event.kind == "alloc"
        else f"free {event.address} {event.bytes}"
        for event in events
    ]


@pytest.mark.parametrize("flags", [["-fPIE", "-pie"], ["-fno-pie", "-no-pie"]])  # without: malloc is a stub of its own
def test_every_function_of_the_family_is_recorded_exactly(tmp_path: Path, flags: list[str]) -> None:
    expected = run([built("family", tmp_path, *flags)], tmp_path / "spool").splitlines()
    [process] = read(tmp_path / "spool")
    mine = {line.split()[1] for line in expected}
    assert lines([event for event in process.events if str(event.address) in mine]) == expected
    asked = [event for event in process.events if event.kind == "alloc" and str(event.address) in mine]
    assert {event.owner for event in asked} == {"family"}
    assert process.lost == 0
    assert all(event.layer == native.HOST for event in process.events)


def test_nothing_below_the_threshold_is_recorded(tmp_path: Path) -> None:
    expected = run([built("family", tmp_path)], tmp_path / "spool", WORKBENCH_THRESHOLD="300000").splitlines()
    large = [line for line in expected if line.startswith("alloc") and int(line.split()[2]) >= 300000]
    [process] = read(tmp_path / "spool")
    allocs = [event for event in process.events if event.kind == "alloc"]
    assert all(event.bytes >= 300000 for event in allocs)
    assert lines([event for event in allocs if event.owner == "family"]) == large


def test_a_stack_that_ends_soon_is_not_read_beyond(tmp_path: Path) -> None:
    run([built("fiber", tmp_path)], tmp_path / "spool")
    [process] = read(tmp_path / "spool")
    [event] = [event for event in process.events if event.asked == 345678]
    assert event.owner == "libstdc++.so.6"  # nobody called it


def test_mappings_say_their_kind(tmp_path: Path) -> None:
    script = """
import mmap, tempfile
with tempfile.TemporaryFile() as file:
    file.truncate(1 << 20)
    of_file = mmap.mmap(file.fileno(), 1 << 20)
    private = mmap.mmap(file.fileno(), 2 << 20 >> 1, flags=mmap.MAP_PRIVATE)
    anonymous = mmap.mmap(-1, 3 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    shared = mmap.mmap(-1, 5 << 20)
    reserved = mmap.mmap(-1, 7 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)
"""
    run_python(script, tmp_path / "spool")
    [process] = read(tmp_path / "spool")
    mapped = [event for event in process.events if event.owner.startswith("mmap.") and event.kind == "alloc"]
    assert [(event.bytes >> 20, event.flags) for event in mapped] == [
        (1, native.FILE | native.SHARED),
        (1, native.FILE),
        (3, 0),
        (5, native.SHARED),
        (7, native.RESERVED),
    ]


def test_no_spool_no_files(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "b = bytearray(1 << 20)"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WORKBENCH")}
    subprocess.run(command, env={**variables, "LD_PRELOAD": str(library_path())}, cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []


def test_threads_signals_and_forks_at_once_lose_nothing_unseen(tmp_path: Path) -> None:
    made = int(run([built("stress", tmp_path)], tmp_path / "spool"))
    processes = read(tmp_path / "spool")
    [parent] = [process for process in processes if process.pid in {other.parent for other in processes}]
    children = [process for process in processes if process is not parent]
    recorded = [event for event in parent.events if event.bytes >= 65536 and not event.owner.startswith("lib")]
    unseen = parent.lost  # a signal that came while the recorder ran on its thread; the program's own start adds to it
    assert made <= len(recorded) + unseen <= made + 10
    assert len(children) == 20
    assert all(child.parent == parent.pid for child in children)
    for child in children:
        allocs = [event for event in child.events if event.kind == "alloc" and event.bytes < 1 << 20]
        assert len(allocs) + child.lost >= 201
        assert {event.owner for event in allocs} <= {"stress", "libc.so.6"}


FORK = (
    KEEP
    + """
import os
libc.malloc(100_001)
if os.fork() == 0:
    libc.malloc(100_002)
    os._exit(0)
os.wait()
libc.malloc(100_003)
"""
)


def asked(process: Process) -> set[int]:
    return {event.asked for event in process.events if event.kind == "alloc" and event.asked // 10 == 10_000}


def test_a_forked_child_has_its_own_ring(tmp_path: Path) -> None:
    run_python(FORK, tmp_path / "spool")
    parent, child = read(tmp_path / "spool")
    assert (asked(parent), asked(child)) == ({100_001, 100_003}, {100_002})
    assert child.parent == parent.pid


def test_children_that_are_started_are_recorded_too(tmp_path: Path) -> None:
    script = f"""
import multiprocessing, subprocess, sys
{KEEP}
def work(size):
    libc.malloc(size)
if __name__ == "__main__":
    work(100_001)
    other = multiprocessing.get_context("spawn").Process(target=work, args=(100_002,))
    other.start()
    other.join()
    assert other.exitcode == 0
    subprocess.run([sys.executable, "-c", {KEEP!r} + "libc.malloc(100_003)"], check=True)
"""
    run_python(script, tmp_path / "spool")
    processes = read(tmp_path / "spool")
    own = {tuple(asked(process)) for process in processes if asked(process)}
    assert own == {(100_001,), (100_002,), (100_003,)}
    assert len({process.pid for process in processes}) == len(processes)


def test_a_spool_that_cannot_be_made_stops_the_recording_not_the_program(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    script = f"""{KEEP}
for i in range(10):
    libc.malloc(100_000)
library = ctypes.CDLL({str(library_path())!r})
print(library.wb_lost() >= 10, library.wb_failure())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(spool),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["True", str(errno.EFBIG)])
    assert not [*spool.glob("*.new"), *spool.glob("*.ring")]


@pytest.mark.parametrize("name", ["jemalloc", "tcmalloc_minimal"])
def test_an_allocator_of_the_program_s_own_is_not_counted_twice(tmp_path: Path, name: str) -> None:
    library = ctypes.util.find_library(name)
    if library is None:
        pytest.skip(f"lib{name} is not installed here")
    script = (
        KEEP
        + """
import numpy, threading
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def work():
    for i in range(300):
        numpy.ones(50_000 + i)
        libc.free(libc.malloc(100_000 + i))
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(ctypes.CDLL(None).malloc and open("/proc/self/maps").read().count("malloc"))
"""
    )
    printed = run_python(script, tmp_path / "spool", preload=library)
    assert int(printed) > 0, "the allocator was not there"
    [process] = read(tmp_path / "spool")
    of_numpy = [event for event in process.events if event.owner.startswith(NUMPY) and event.asked >= 400_000]
    assert len(of_numpy) == 900
    assert not [event for event in process.events if name.split("_")[0] in event.owner]
    live: dict[int, int] = {}
    for event in process.events:
        if event.kind == "alloc":
            assert event.address not in live, "handed out twice"
            live[event.address] = event.bytes
        else:
            live.pop(event.address, None)


LATE = """
import sys
from pathlib import Path
import numpy
from workbench.recorder.native import Spool
from workbench.recorder.sources.host import Host
from workbench.recorder.sources.torch_blocks import TorchBlocks
before = numpy.ones(50_000)
spool, host, blocks = Spool(), Host("large"), TorchBlocks(1 << 16, print)
spool.open(Path(sys.argv[1]), 65536)
limits = host.attach(spool, late=True) + blocks.attach(spool, late=True)
during = numpy.ones(60_000)
import torch
tensor = torch.ones(70_000)
del before, during, tensor
host.detach(), blocks.detach()
after = numpy.ones(80_000)
spool.close()
print(*limits, sep="\\n")
"""


def test_a_process_that_runs_already_can_be_recorded(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    done = subprocess.run([sys.executable, "-c", LATE, spool], capture_output=True, text=True, check=True)
    assert "in use before the recording began" in done.stdout
    [process] = read(spool)
    of_numpy = [event for event in process.events if event.owner.startswith(NUMPY) and event.asked >= 100_000]
    assert [event.asked for event in of_numpy] == [480_000]
    assert "\0ones\0" in of_numpy[0].stack[0]
    blocks = process.of("torch")
    assert [(event.kind, event.address) for event in blocks] == [
        ("alloc", blocks[0].address),
        ("free", blocks[0].address),
    ]
    assert blocks[0].asked == 280_000
    assert not process.of("libc10.so"), "what torch asks for is one event, not also one of the library that it asks"


TORCH = """
import os, torch
torch.zeros(1)
kept = torch.empty(100_000)
tensors = [torch.empty(n) for n in (1, 1000, 100_001)]
del tensors
print(kept.data_ptr(), flush=True)
os._exit(0)
"""


NO_MEMORY = """
import ctypes, os, torch
libc = ctypes.CDLL(None)
torch.zeros(1)
try:
    torch.empty(1 << 50, dtype=torch.uint8)
except RuntimeError:
    libc.malloc(300_001)
os._exit(0)
"""


def test_after_torch_found_no_memory_others_ask_in_their_own_names(tmp_path: Path) -> None:
    run_python(NO_MEMORY, tmp_path / "spool")
    process = read(tmp_path / "spool")[0]
    [other] = [event for event in process.events if event.asked == 300_001]
    assert other.owner != "torch"


def test_torch_blocks_pair_and_are_told_once(tmp_path: Path) -> None:
    kept = int(run_python(TORCH, tmp_path / "spool", WORKBENCH_STACKS="all", WORKBENCH_TORCH_MIN="1"))
    process = read(tmp_path / "spool")[0]
    blocks = process.of("torch")
    assert {event.layer for event in blocks} == {native.HOST}
    of_script = [
        event for event in blocks if event.stack and event.stack[-1].startswith(f"{tmp_path}/spool.py\0<module>")
    ]
    sizes = [event.asked for event in of_script if event.stack[0].startswith(f"{tmp_path}/spool.py")]
    assert sizes == [4, 400_000, 4, 4000, 400_004]
    live: dict[int, int] = {}
    for event in blocks:
        if event.kind == "alloc":
            assert event.address not in live
            live[event.address] = event.asked
        else:
            del live[event.address]
    assert live[kept] == 400_000
    assert 400_004 not in live.values()
    assert not process.of("libc10.so")


def test_torch_blocks_below_the_threshold_are_not_recorded(tmp_path: Path) -> None:
    run_python(TORCH, tmp_path / "spool")
    blocks = [event for event in read(tmp_path / "spool")[0].of("torch") if event.kind == "alloc"]
    assert [event.asked for event in blocks] == [400_000, 400_004]


REPORTS = """
import ctypes, sys
import torch
report = ctypes.CDLL(None)._ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE
report.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_uint16]
detail = ctypes.CDLL(None).wb_torch_detail
detail.argtypes = [ctypes.c_uint64] * 3
CPU, CUDA, DEVICE = 0, 1, 3
report(0x7000, 2 << 20, 0, 0, CUDA | DEVICE << 8)
detail(0x8000, 1000, 77)
report(0x9000, 512, 0, 0, CUDA | DEVICE << 8)
report(0x8000, 1024, 0, 0, CUDA | DEVICE << 8)
report(0x8000, -1024, 0, 0, CUDA | DEVICE << 8)
report(0x6000, 1 << 20, 0, 0, CPU)
"""


def test_reports_of_gpu_blocks(tmp_path: Path) -> None:
    """torch's report function, called here as its CUDA library calls it."""
    run_python(REPORTS, tmp_path / "spool")
    [path] = (tmp_path / "spool").glob("*.ring")
    rows = Ring(path).drain(1 << 16)
    rows = rows[rows["tier"] == native.GPU]
    fields = ["kind", "address", "bytes", "asked", "stream", "device", "layer"]
    expected = [
        (native.ALLOC, 0x7000, 2 << 20, 2 << 20, 0),
        (native.ALLOC, 0x9000, 512, 512, 0),
        (native.ALLOC, 0x8000, 1024, 1000, 77),
        (native.FREE, 0x8000, 1024, 1024, 0),
    ]
    assert rows[fields].tolist() == [(*row, 3, native.ALLOCATOR) for row in expected]
    assert rows["stack"][:3].all()


def test_libraries_loaded_late_are_found_where_their_loader_looks(tmp_path: Path) -> None:
    """While a running process is recorded, dlopen passes through the recorder: the caller's RUNPATH still counts."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "inner.c").write_text("#include <stdlib.h>\nvoid *inner(void) { return malloc(123456); }")
    (tmp_path / "outer.c").write_text(
        "#include <dlfcn.h>\nvoid *outer(void) {\n"
        'void *(*inner)(void) = dlsym(dlopen("libinner.so", RTLD_NOW), "inner"); return inner(); }'
    )
    compile_ = ["gcc", "-shared", "-fPIC", "-fno-builtin", "-o"]
    subprocess.run([*compile_, "sub/libinner.so", "inner.c"], cwd=tmp_path, check=True)
    subprocess.run([*compile_, "libouter.so", "outer.c", "-Wl,-rpath,$ORIGIN/sub"], cwd=tmp_path, check=True)
    script = f"""
import ctypes
from pathlib import Path
from workbench.recorder.native import Spool
from workbench.recorder.sources.host import Host
spool, host = Spool(), Host("none")
spool.open(Path({str(tmp_path)!r}), 65536)
host.attach(spool, late=True)
ctypes.CDLL({str(tmp_path / "libouter.so")!r}).outer()
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert [event.owner for event in read(tmp_path)[0].events if event.asked == 123456] == ["libinner.so"]
