"""The driver source without a GPU: real programs call a driver of the tests' own (tests/unit/cuda/driver.c)."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from workbench.kernels import library_path

from tests.unit.driven import MIB, VIRTUAL, allocations, readings, told
from workbench.recorder import native
from workbench.recorder.sources import Unavailable, driver
from workbench.recorder.sources.copies import Copies
from workbench.recorder.sources.on_import import on_import

REGISTERED = native.REGISTERED


def test_an_allocation_has_the_library_beyond_the_runtime_and_what_the_device_gave_for_it(recorded: Any) -> None:
    found = recorded("""
runtime.rt_start()
large, small = ask(5 * MIB // 2), ask(4096)
ask(1 << 41)
give_back(large)
""")
    taken = allocations(found)
    assert told(taken, "kind", "owner", "bytes", "asked") == [
        (native.ALLOC, "libasker.so", 4 * MIB, 5 * MIB // 2),
        (native.ALLOC, "libasker.so", 4096, 4096),
        (native.REFUSED, "libasker.so", 1 << 41, 1 << 41),
        (native.FREE, "", 0, 0),
    ]
    assert taken[0]["address"] == taken[3]["address"] != taken[1]["address"]
    assert {(each["tier"], each["device"]) for each in taken[:3]} == {(native.GPU, 0)}
    assert taken[0]["stack"]
    assert taken[0]["thread"]


def test_pinned_and_registered_memory_is_the_hosts(recorded: Any) -> None:
    found = allocations(
        recorded("""
runtime.rt_start()
pinned, own = ctypes.c_void_p(), ctypes.create_string_buffer(4 * MIB)
cuda.cuMemHostAlloc(byref(pinned), ctypes.c_size_t(3 * MIB), 0)
cuda.cuMemHostRegister_v2(own, ctypes.c_size_t(4 * MIB), 0)
cuda.cuMemHostUnregister(own)
""")
    )
    assert told(found, "kind", "bytes", "flags") == [
        (native.ALLOC, 3 * MIB, 0),
        (native.ALLOC, 4 * MIB, REGISTERED),
        (native.FREE, 0, 0),
    ]
    assert {(each["tier"], each["device"]) for each in found[:2]} == {(native.PINNED, -1)}


def test_virtual_memory_lives_until_its_last_handle_and_mapping_are_gone(recorded: Any) -> None:
    found = recorded(
        VIRTUAL
        + """
first = word(handle.value + 0x1000)  # the driver of the tests finds the handle by it
cuda.cuMemMap(first, size, word(0), handle, word(0))
cuda.cuMemRetainAllocationHandle(byref(again), ctypes.c_void_p(first.value))
assert again.value == handle.value
cuda.cuMemRelease(handle)
cuda.cuMemUnmap(first, size)
cuda.cuStreamCreate(byref(stream), 0)
cuda.cuMemMap(word(0x9000), size, word(0), handle, word(0))
cuda.cuMemRelease(handle)
cuda.cuStreamCreate(byref(stream), 0)
cuda.cuMemUnmap(word(0x8000), ctypes.c_size_t(12 * MIB))
"""
    )
    streams = [place for place, record in enumerate(found) if record["owner"] == "streams"]
    (taken, given) = allocations(found)
    assert (taken["kind"], taken["bytes"], given["kind"]) == (native.ALLOC, 6 * MIB, native.FREE)
    assert taken["address"] == given["address"]
    assert found.index(taken) < streams[0] < streams[1] < found.index(given)


def test_virtual_memory_that_is_not_mapped_is_known_when_a_device_is_read(recorded: Any) -> None:
    found = recorded(
        VIRTUAL
        + """
cuda.cuStreamCreate(byref(stream), 0)
cuda.cuMemMap(word(0x9000), size, word(0), handle, word(0))
cuda.cuMemUnmap(word(0x9000), size)
cuda.cuMemRelease(handle)
"""
    )
    handle = allocations(found)[0]["address"]
    assert [(each["kind"], each["address"]) for each in allocations(found)] == [
        (native.ALLOC, handle),
        (native.FREE, handle),
        (native.ALLOC, 0x9000),
        (native.FREE, 0x9000),
    ]


def test_growth_belongs_to_what_was_just_made(recorded: Any) -> None:
    found = recorded("""
runtime.rt_start()
stream, graph = ctypes.c_void_p(), ctypes.c_void_p()
cuda.cuStreamCreate(byref(stream), 0)
kernel, ones = ctypes.c_void_p(0x1230), [1] * 7
for _ in range(3):
    cuda.cuLaunchKernel(kernel, *ones, none, none, none)
word.in_dll(cuda, "test_used").value += 20 * MIB  # grown by something else
cuda.cuGraphInstantiateWithFlags(byref(graph), ctypes.c_void_p(0x77700), word(0))
for _ in range(3):
    cuda.cuGraphLaunch(graph, none)
""")
    sizes = [(each["owner"], each["flags"], each["bytes"] // MIB) for each in readings(found)]
    changes = [size for before, size in zip([None, *sizes], sizes, strict=False) if not before or before[2] != size[2]]
    assert changes == [
        ("context", 0, 3),
        ("context", 0, 503),
        ("streams", 0, 505),
        ("modules", 0, 509),
        ("", 1, 529),
        ("graphs", 0, 530),
        ("graphs", 0, 533),
    ]


def test_a_copy_has_its_direction_and_stream_when_it_is_submitted(recorded: Any) -> None:
    found = recorded("""
runtime.rt_start()
device, host, stream = word(ask(MIB)), ctypes.create_string_buffer(MIB), ctypes.c_void_p(0x5550)
cuda.cuMemcpyHtoDAsync_v2(device, host, ctypes.c_size_t(MIB), stream)
cuda.cuMemcpyAsync(word(ctypes.addressof(host) & 0xfffffff), device, ctypes.c_size_t(4096), stream)
""")
    copies = [record for record in found if record["kind"] == native.COPY]
    assert told(copies, "flags", "bytes", "stream", "address") == [(1, MIB, 0x5550, 0), (2, 4096, 0x5550, 0)]
    assert 0 < copies[0]["time_ns"] < copies[0]["time_ns"] + copies[0]["thread"] <= copies[1]["time_ns"]


def test_copies_that_a_thread_tells_of_are_left_to_it(recorded: Any) -> None:
    found = recorded("""
import threading
from workbench.recorder.native import Spool
runtime.rt_start()
device, host, stream = word(ask(MIB)), ctypes.create_string_buffer(MIB), ctypes.c_void_p(0x5550)
copy = lambda size: cuda.cuMemcpyHtoDAsync_v2(device, host, ctypes.c_size_t(size), stream)
place = ctypes.c_uint8.from_address(ctypes.CFUNCTYPE(ctypes.c_void_p)(Spool().telling)())
place.value = 1
copy(1)
other = threading.Thread(target=copy, args=(2,))
other.start()
other.join()
place.value = 0
copy(3)
""")
    assert [record["bytes"] for record in found if record["kind"] == native.COPY] == [2, 3]


def test_copies_handed_on_by_streams_are_seen_unless_they_tell_of_them(recorded: Any) -> None:
    found = recorded("""
from workbench.kernels.transfers import device_of
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import PerTransfer, Single
from workbench.mechanisms.streams.work import Block, Transfer
from workbench.recorder.native import Spool
from workbench.recorder.probe import NullProbe

class Device:
    number, functions, context = 0, device_of(), 0

class Teller(NullProbe):
    def telling(self): return Spool().telling

runtime.rt_start()
here, there = Block(ctypes.addressof(ctypes.create_string_buffer(MIB)), 7, False), Block(ask(MIB), 7, True)
for value in (Single(), PerTransfer()):  # who submits hands on, and a thread
    for probe in (NullProbe(), Teller()):
        with Streams(value, Device, 0, probe=probe) as streams:
            streams.submit(Transfer(here, there))
            streams.submit(Transfer(there, here))
""")
    copies = [record for record in found if record["kind"] == native.COPY]
    assert told(copies, "flags", "bytes") == [(1, 7), (2, 7)] * 2


def test_copies_of_every_kind_are_told_by_direction_and_bytes(recorded: Any) -> None:
    found = recorded(
        """
runtime.rt_start()
size = ctypes.c_size_t
device, other, host = word(ask(MIB)), word(ask(MIB)), word(0x1000)
cuda.cuMemcpyDtoH_v2(ctypes.c_void_p(0x1000), device, size(10))
cuda.cuMemcpy(device, host, size(20))
cuda.cuMemcpyPeerAsync(device, none, other, none, size(30), none)
class Rows(ctypes.Structure):  # CUDA_MEMCPY2D
    _fields_ = [(name, kind) for side in ("from", "to") for name, kind in (
        (side + "_x", size), (side + "_y", size), (side + "_type", ctypes.c_int), (side + "_host", size),
        (side + "_device", word_type), (side + "_array", size), (side + "_pitch", size))] + [
        ("width", size), ("height", size)]
HOST, DEVICE, UNIFIED = 1, 2, 4
for kinds in ((HOST, DEVICE), (DEVICE, DEVICE), (UNIFIED, UNIFIED)):
    rows = Rows(from_type=kinds[0], to_type=kinds[1], from_device=device.value, to_device=0x1000, width=8, height=5)
    cuda.cuMemcpy2DAsync_v2(byref(rows), none)
many = ctypes.c_uint64 * 2
cuda.cuMemcpyBatchAsync_v2(many(device.value, 0x1000), many(0x1000, other.value), many(50, 60), size(2), none, none,
                           size(2), none)
""".replace("word_type", "ctypes.c_uint64")
    )
    to_device, to_host, within, peer = 1, 2, 3, 5
    copies = [record for record in found if record["kind"] == native.COPY]
    assert told(copies, "flags", "bytes") == [
        (to_host, 10),
        (to_device, 20),
        (peer, 30),
        (to_device, 40),
        (within, 40),
        (to_host, 40),
        (to_device, 50),
        (to_host, 60),
    ]


def test_what_becomes_part_of_a_graph_is_not_done_now(recorded: Any) -> None:
    found = recorded("""
runtime.rt_start()
device, host, stream, inside = word(ask(MIB)), ctypes.create_string_buffer(MIB), ctypes.c_void_p(0x5550), word()
cuda.test_capture(1)
cuda.cuMemcpyHtoDAsync_v2(device, host, ctypes.c_size_t(MIB), stream)
cuda.cuMemAllocAsync(byref(inside), ctypes.c_size_t(MIB), stream)
cuda.test_capture(0)
cuda.cuMemAllocAsync(byref(inside), ctypes.c_size_t(MIB), stream)
cuda.cuMemFreeAsync(inside, stream)
""")
    assert not [record for record in found if record["kind"] == native.COPY]
    assert told(allocations(found), "kind", "stream") == [
        (native.ALLOC, 0),
        (native.ALLOC, 0x5550),
        (native.FREE, 0),
    ]


def test_an_event_has_the_tag_of_its_thread(recorded: Any) -> None:
    [taken] = allocations(
        recorded("""
from workbench.recorder import native
runtime.rt_start()
with native.Spool().tagged("kv_cache"):
    ask(MIB)
""")
    )
    assert taken["tag"] == "kv_cache"


def test_a_driver_in_use_is_found_late(recorded: Any, tmp_path: Path) -> None:
    found = recorded(
        """
from pathlib import Path
from workbench.recorder import native
from workbench.recorder.sources.driver import Driver
runtime.rt_start()
ask(MIB)
spool, source = native.Spool(), Driver()
spool.open(Path(SPOOL), 1 << 16)
source.attach(spool, late=True)
late = ask(7 * MIB)
give_back(late)
source.detach()
ask(9 * MIB)
""".replace("SPOOL", repr(str(tmp_path / "spool"))),
        preload=False,
    )
    assert told(allocations(found), "kind", "asked", "owner") == [
        (native.ALLOC, 7 * MIB, "libasker.so"),
        (native.FREE, 0, ""),
    ]
    assert found[0]["kind"] == native.MEASURE  # the driver was there already, so the first reading is at once


def test_left_out_it_records_nothing(recorded: Any) -> None:
    assert recorded("runtime.rt_start(); ask(MIB)", WORKBENCH_WITHOUT="driver") == []


def test_dlsym_is_what_it_was_to_everyone_else(recorded: Any) -> None:
    recorded("""
import os
assert asker.next_getpid() == os.getpid()
runtime.rt_start()
assert asker.knows(b"malloc") and not asker.knows(b"cuNoSuchFunction")
assert asker.knows(b"cuMemAlloc_v2") and not asker.knows(b"cuMemAllocPitch_v2")  # there are drivers without it
""")


def test_names_of_a_driver_that_is_not_there_are_not_known(libraries: Path) -> None:
    program = 'import ctypes; assert not ctypes.CDLL("libasker.so").knows(b"cuInit")'
    env = os.environ | {"LD_PRELOAD": str(library_path()), "LD_LIBRARY_PATH": str(libraries)}
    subprocess.run([sys.executable, "-c", program], env=env, check=True)


def test_on_import_acts_once_the_module_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(tmp_path, "late_one.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[int] = []
    on_import("late_one", lambda module: seen.append(module.value))
    assert seen == []
    import late_one  # type: ignore[import-not-found]

    on_import("late_one", lambda module: seen.append(module.value + 1))
    assert seen == [1, 2]
    assert type(late_one.__spec__.loader).__name__ == "SourceFileLoader"
    del sys.modules["late_one"]


def test_on_import_acts_too_where_the_module_was_looked_for_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM looks for torch, to read its version from a file beside it, before it imports it."""
    Path(tmp_path, "sought_one.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[int] = []
    on_import("sought_one", lambda module: seen.append(10 * module.value))
    on_import("sought_one", lambda module: seen.append(100 * module.value))
    for _ in range(2):
        spec: Any = importlib.util.find_spec("sought_one")
        assert spec.loader.is_package("sought_one") is False, "who only looks for a module may ask its own loader"
    importlib.import_module("sought_one")
    assert sorted(seen) == [10, 100]
    assert not any(type(finder).__name__ == "_Finder" for finder in sys.meta_path)
    del sys.modules["sought_one"]


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="says what a machine without a GPU says")
def test_without_a_driver_both_sources_say_so() -> None:
    for source in (driver.Driver(), Copies()):
        with pytest.raises(Unavailable, match=r"no NVIDIA driver"):
            source.attach(native.Spool(), late=False)
