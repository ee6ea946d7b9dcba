"""What a device is said to use, which number it has, and forks: by a driver of the tests' own."""

from __future__ import annotations

from typing import Any

from tests.unit.driven import MIB, VIRTUAL, allocations, readings, told
from workbench.recorder import native
from workbench.recorder.unrecorded import OUTLIVED


def test_a_device_that_uses_as_much_as_before_is_read_all_the_same(recorded: Any) -> None:
    found = recorded("""
runtime.rt_start()
stream = ctypes.c_void_p()
cuda.cuStreamCreate(byref(stream), 0)
ask(2 * MIB)  # recorded: the stream that goes gives the same back, which only a reading tells
cuda.cuStreamDestroy_v2(stream)
""")
    assert [each["bytes"] // MIB for each in readings(found) if each["owner"] == "streams"] == [505, 505]


def outlived(records: list[dict[str, Any]]) -> list[int]:
    """Bytes that a reading says may have been outlived, of each such reading."""
    return [each["asked"] // MIB for each in readings(records) if each["flags"] & OUTLIVED]


def test_a_device_is_read_when_shared_memory_is_given_back(recorded: Any) -> None:
    found = recorded(
        VIRTUAL
        + """
cuda.cuMemMap(word(0x9000), size, word(0), handle, word(0))
cuda.cuMemExportToShareableHandle(byref(again), handle, 0, word(0))
cuda.cuMemRelease(handle)
cuda.cuMemUnmap(word(0x9000), size)
"""
    )
    *_, taken, given, read = found
    assert (taken["kind"], given["kind"], outlived([read])) == (native.ALLOC, native.FREE, [6])
    assert (read["owner"], read["device"]) == (taken["owner"], taken["device"])


def test_a_device_is_read_when_the_memory_of_another_process_is_let_go_of(recorded: Any) -> None:
    found = recorded(
        VIRTUAL
        + """
cuda.cuMemRelease(handle)
cuda.cuMemImportFromShareableHandle(byref(again), ctypes.c_void_p(0x70000), 0)
cuda.cuMemMap(word(0x9000), size, word(0), again, word(0))
cuda.cuMemRelease(again)
cuda.cuStreamCreate(byref(stream), 0)
cuda.cuMemUnmap(word(0x9000), size)
cuda.cuStreamDestroy_v2(stream)
"""
    )
    assert allocations(found) == []  # it is recorded by who made it, and its own was never mapped nor read
    assert [each["owner"] for each in readings(found)[-3:]].count("streams") == 2
    assert outlived(readings(found)[-3:]) == outlived(found) == [6]
    assert readings(found)[-2]["flags"] & OUTLIVED


def test_memory_that_a_process_imports_of_itself_is_its_own(recorded: Any) -> None:
    found = recorded(
        VIRTUAL
        + """
cuda.cuMemMap(word(0x9000), size, word(0), handle, word(0))
cuda.cuMemImportFromShareableHandle(byref(again), ctypes.c_void_p(handle.value), 0)
cuda.cuMemRelease(handle)
cuda.cuMemUnmap(word(0x9000), size)
cuda.cuStreamCreate(byref(stream), 0)
cuda.cuMemRelease(again)
"""
    )
    assert [each["kind"] for each in found[-3:]] == [native.ALLOC, native.MEASURE, native.FREE]
    assert outlived(found) == []


def test_a_device_has_nvmls_number_where_cuda_has_another(recorded: Any) -> None:
    found = recorded(
        VIRTUAL
        + """
ask(MIB)
refused = (ctypes.c_int * 4)(1, 0, 1, 7)  # of a device that is not current, and that nobody knows
cuda.cuMemCreate(byref(handle), ctypes.c_size_t(1 << 41), refused, word(0))
cuda.cuStreamCreate(byref(stream), 0)  # what is not mapped is known
""",
        CUDA_VISIBLE_DEVICES="3",
    )
    assert {each["device"] for each in readings(found)} == {3}
    assert told(allocations(found), "kind", "device") == [
        (native.ALLOC, 3),
        (native.REFUSED, 7),
        (native.ALLOC, 3),
    ]


def test_a_graph_that_goes_does_not_have_its_neighbours_forgotten(recorded: Any) -> None:
    found = recorded("""
runtime.rt_start()
home = lambda thing: (thing * 0x9e3779b97f4a7c15 & (1 << 64) - 1) >> 50  # where it is kept: see driver_launch.c
first = 0x77700
second = next(thing for thing in range(first + 16, 1 << 30, 16) if home(thing) == home(first))
for graph in (first, second):
    cuda.cuGraphLaunch(ctypes.c_void_p(graph), none)
cuda.cuGraphExecDestroy(ctypes.c_void_p(first))
word.in_dll(cuda, "test_used").value += 20 * MIB  # a reading would show it
cuda.cuGraphLaunch(ctypes.c_void_p(second), none)
""")
    assert max(each["bytes"] // MIB for each in readings(found)) == 509


FORKS = """
import os, threading, time
runtime.rt_start()
handle, size, device = word(), ctypes.c_size_t(2 * MIB), (ctypes.c_int * 4)(1, 0, 1, 0)
def keep_busy():
    mine = word()
    while not done:
        cuda.cuMemCreate(byref(mine), size, device, word(0))
        cuda.cuMemRelease(mine)
done = False
cuda.cuMemCreate(byref(handle), size, device, word(0))
threads = [threading.Thread(target=keep_busy) for _ in range(2)]
for thread in threads: thread.start()
stuck = 0
for _ in range(40):
    child = os.fork()
    if not child:
        cuda.cuMemRelease(handle)
        os._exit(0)
    until = time.monotonic() + 5
    while not (ended := os.waitpid(child, os.WNOHANG)[0]) and time.monotonic() < until: time.sleep(0.001)
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
        stuck = 1
        break
done = True
for thread in threads: thread.join()
assert not stuck, "a forked child waits for a lock that nobody holds"
"""


def test_a_fork_can_happen_while_virtual_memory_is_asked_for(recorded: Any) -> None:
    recorded(FORKS)
