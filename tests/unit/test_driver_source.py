"""The driver source without a GPU: the native callbacks are fed what CUPTI and NVML would hand them."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from workbench.record import native, rings
from workbench.record.sources import Unavailable, cupti_library, driver
from workbench.record.sources.cupti_library import DriverApi, visible_devices
from workbench.record.sources.on_import import on_import

MIB = 1 << 20
MEMORY2, MEMCPY = 49, 1
ALLOCATION, RELEASE = 1, 2
PINNED, DEVICE, DEVICE_STATIC = 2, 3, 6
RESOURCE = 3
CONTEXT_CREATED, STREAM_CREATED, STREAM_DESTROY, INITIALISED, GRAPH_STARTS, GRAPH_MADE = 1, 3, 4, 5, 17, 18


class Activity(ctypes.Structure):
    """CUpti_ActivityMemory4, or the start of CUpti_ActivityMemcpy6 laid over it."""

    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("operation", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("correlation", ctypes.c_uint32),
        ("address", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("time_ns", ctypes.c_uint64),
        ("caller", ctypes.c_uint64),
        ("ids", ctypes.c_uint32 * 4),
        ("symbol", ctypes.c_char_p),
        ("asynchronous", ctypes.c_uint64),
        ("pool", ctypes.c_uint64 * 5),
        ("source", ctypes.c_char_p),
    ]


SIZE = ctypes.sizeof(Activity)
Next = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p))
DeviceOf = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32))
MemoryOf = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64 * 3))


class Gpu:
    """One device whose used memory a test sets, and the CUPTI of a test."""

    def __init__(self, folder: Path) -> None:
        self.used = 0
        self._library = native.library()
        self._folder = folder
        self._callbacks = Next(self._next), DeviceOf(self._device_of), MemoryOf(self._memory_of)
        step, device_of, memory_of = (ctypes.cast(callback, ctypes.c_void_p) for callback in self._callbacks)
        devices = (ctypes.c_void_p * cupti_library.MOST_DEVICES)(1)
        self._library.wb_driver_init(ctypes.byref(DriverApi(step, None, device_of, None, memory_of, 1, devices)))
        self.happens(CONTEXT_CREATED)  # the readings of an earlier test end here
        self.records()

    def _next(self, buffer: int, valid: int, record: ctypes._Pointer[ctypes.c_void_p]) -> int:
        place = record[0] + SIZE if record[0] else buffer
        record[0] = place
        return int(place >= buffer + valid)

    def _device_of(self, context: int, device: ctypes._Pointer[ctypes.c_uint32]) -> int:
        device[0] = 0
        return 0

    def _memory_of(self, device: int, memory: ctypes._Pointer[ctypes.Array[ctypes.c_uint64]]) -> int:
        memory[0][2] = self.used
        return 0

    def completes(self, *activities: Activity) -> None:
        """Hand over a buffer of activities as CUPTI does."""
        buffer, size, most = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
        self._library.wb_on_buffer_requested(*(ctypes.byref(out) for out in (buffer, size, most)))
        assert buffer.value
        assert size.value >= SIZE * len(activities)
        for place, activity in enumerate(activities):
            ctypes.memmove(buffer.value + place * SIZE, ctypes.byref(activity), SIZE)
        valid = ctypes.c_size_t(SIZE * len(activities))
        self._library.wb_on_buffer_completed(None, 0, buffer, size, valid)

    def happens(self, event: int, used: int | None = None) -> None:
        """A resource callback, at which the device has `used` bytes in use."""
        self.used = self.used if used is None else used
        self._library.wb_on_callback(None, RESOURCE, event, ctypes.byref(ctypes.c_void_p(1)))

    def records(self) -> rings.Records:
        """What was recorded since the last call."""
        return rings.Ring(next(self._folder.glob("*.ring"))).drain(100)

    def names(self, records: rings.Records) -> list[str]:
        """The owners of records."""
        [path] = self._folder.glob("*.names")
        known = {entry.id: entry.text for entry in native.Names(path).read_new() if entry.kind == native.NAME}
        return [known.get(int(owner), "") for owner in records["owner"]]


@pytest.fixture
def gpu(tmp_path: Path) -> Iterator[Gpu]:
    spool = native.Spool()
    spool.open(tmp_path, 1 << 16)
    native.library().wb_name(b"first")
    rings.write(np.ones(1, rings.RECORD))  # makes the ring
    yield Gpu(tmp_path)
    spool.close()


def memory(operation: int, kind: int, address: int, size: int, source: bytes | None = None) -> Activity:
    return Activity(MEMORY2, operation, kind, 0, address, size, 7, source=source)


def test_an_allocation_has_its_library_and_what_the_device_gave_for_it(gpu: Gpu) -> None:
    gpu.completes(
        memory(ALLOCATION, DEVICE, 0x1000, 5 * MIB // 2, b"/lib/libnccl.so.2"),
        memory(ALLOCATION, DEVICE, 0x2000, 4096, b"libsmall.so"),
        memory(ALLOCATION, PINNED, 0x3000, 3 * MIB, None),
        memory(RELEASE, DEVICE, 0x1000, 5 * MIB // 2),
    )
    found = gpu.records()
    assert gpu.names(found) == ["libnccl.so.2", "libsmall.so", "libcuda.so.1", ""]
    assert found["bytes"].tolist() == [4 * MIB, 4096, 3 * MIB, 4 * MIB]
    assert found["asked"].tolist() == [5 * MIB // 2, 4096, 3 * MIB, 5 * MIB // 2]
    assert found["kind"].tolist() == [native.ALLOC] * 3 + [native.FREE]
    assert found["tier"].tolist() == [native.GPU, native.GPU, native.PINNED, native.GPU]
    assert found["device"].tolist() == [0, 0, -1, 0]
    assert found["time_ns"].tolist() == [7] * 4


def test_variables_of_modules_are_left_to_the_measurement_of_modules(gpu: Gpu) -> None:
    gpu.completes(memory(ALLOCATION, DEVICE_STATIC, 0x1000, 512, b"libtorch_cuda.so"))
    assert len(gpu.records()) == 0


def test_a_copy_has_its_direction_and_both_times(gpu: Gpu) -> None:
    device_to_host = 2
    gpu.completes(Activity(MEMCPY, device_to_host, 0, 0, 0, 0, 0), _copy(device_to_host, 4096, 10, 30))
    [copy] = gpu.records()
    assert (copy["kind"], copy["flags"], copy["bytes"]) == (native.COPY, device_to_host, 4096)
    assert (copy["time_ns"], copy["address"]) == (10, 30)


def _copy(direction: int, size: int, start: int, end: int) -> Activity:
    # the copy's `bytes`, `start` and `end` lie where an allocation's kind and correlation, address and bytes do
    return Activity(MEMCPY, direction, size, 0, start, end)


def test_growth_belongs_to_what_was_just_created(gpu: Gpu) -> None:
    gpu.happens(INITIALISED, 3 * MIB)
    gpu.happens(CONTEXT_CREATED, 538 * MIB)
    gpu.happens(STREAM_CREATED, 540 * MIB)
    gpu.happens(STREAM_CREATED, 540 * MIB)  # took nothing: no record
    gpu.happens(GRAPH_STARTS, 560 * MIB)  # grown by something else
    gpu.happens(GRAPH_MADE, 562 * MIB)
    found = gpu.records()
    assert gpu.names(found) == ["context", "context", "streams", "", "graphs"]
    assert found["flags"].tolist() == [0, 0, 0, 1, 0]
    assert found["bytes"].tolist() == [size * MIB for size in (3, 538, 540, 560, 562)]
    assert set(found["kind"]) == {native.MEASURE}


def test_what_is_given_back_is_read_after_it_is_gone(gpu: Gpu) -> None:
    gpu.happens(STREAM_CREATED, 10 * MIB)
    gpu.happens(STREAM_DESTROY, 10 * MIB)
    gpu.happens(GRAPH_STARTS, 8 * MIB)
    found = gpu.records()
    assert gpu.names(found) == ["streams", "streams"]
    assert found["bytes"].tolist() == [10 * MIB, 8 * MIB]


@pytest.mark.parametrize(
    ("chosen", "devices"),
    [
        (None, [0, 1, 2, 3]),
        ("2,0", [2, 0]),
        ("", []),
        ("1,7,2", [1]),
        ("GPU-8a, 1", ["GPU-8a", 1]),
    ],
)
def test_devices_are_in_cudas_order(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, devices: list[int | str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_devices(4) == devices


def test_a_profiler_has_cupti_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def says(name: str) -> Callable[..., None]:
        return lambda *_: calls.append(name)

    class Held:
        step_aside, come_back = staticmethod(says("aside")), staticmethod(says("back"))

    profiler = ModuleType("profiler")
    for name in ("_prepare_profiler", "_enable_profiler", "_disable_profiler"):
        setattr(profiler, name, says(name))
    monkeypatch.setattr(driver, "_attached", [Held])
    driver._share_with(profiler)
    profiler._prepare_profiler("config", set())
    profiler._enable_profiler("config", set())
    profiler._disable_profiler()
    assert calls == ["aside", "_prepare_profiler", "aside", "_enable_profiler", "_disable_profiler", "back"]


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


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="says what a machine without a GPU says")
def test_without_a_driver_it_says_so() -> None:
    with pytest.raises(Unavailable, match=r"no NVIDIA driver"):
        driver.Driver().attach(native.Spool(), late=False)
