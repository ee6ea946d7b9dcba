"""The times of copies without a GPU: the native callbacks are fed what CUPTI would hand them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from workbench.recorder import native, rings
from workbench.recorder.sources import Unavailable, copies

MEMCPY, MEMORY2 = 1, 49
HOST_TO_DEVICE, DEVICE_TO_HOST, PEER = 1, 2, 10


class Activity(ctypes.Structure):
    """The start of CUpti_ActivityMemcpy6."""

    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("direction", ctypes.c_uint8 * 4),
        ("bytes", ctypes.c_uint64),
        ("start_ns", ctypes.c_uint64),
        ("end_ns", ctypes.c_uint64),
        ("device", ctypes.c_uint32),
        ("context", ctypes.c_uint32),
        ("stream", ctypes.c_uint32),
    ]


SIZE = ctypes.sizeof(Activity)
Next = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p))


def copy(direction: int, start: int, end: int, kind: int = MEMCPY) -> Activity:
    return Activity(kind, (direction, 0, 0, 0), 4096, start, end, 0, 0, 7)


def step(buffer: int, valid: int, record: ctypes._Pointer[ctypes.c_void_p]) -> int:
    place = record[0] + SIZE if record[0] else buffer
    record[0] = place
    return int(place >= buffer + valid)


@pytest.fixture
def completes(tmp_path: Path) -> Iterator[Callable[..., rings.Records]]:
    """Hands over a buffer of activities as CUPTI does; gives what was recorded of it."""
    spool, library = native.Spool(), native.library()
    spool.open(tmp_path, 1 << 16)
    step_on = Next(step)
    library.wb_copies_init(ctypes.cast(step_on, ctypes.c_void_p), None)
    rings.write(np.ones(1, rings.RECORD))  # makes the ring
    ring = rings.Ring(next(tmp_path.glob("*.ring")))
    ring.drain(1)

    def hand_over(*activities: Activity) -> rings.Records:
        buffer, size, most = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
        library.wb_on_buffer_requested(*(ctypes.byref(out) for out in (buffer, size, most)))
        assert buffer.value
        assert size.value >= SIZE * len(activities)
        for place, activity in enumerate(activities):
            ctypes.memmove(buffer.value + place * SIZE, ctypes.byref(activity), SIZE)
        library.wb_on_buffer_completed(None, 0, buffer, size, ctypes.c_size_t(SIZE * len(activities)))
        return ring.drain(100)

    yield hand_over
    spool.close()


def test_a_copy_has_its_direction_and_both_times(completes: Callable[..., rings.Records]) -> None:
    found = completes(copy(HOST_TO_DEVICE, 10, 30), copy(PEER, 40, 50))
    assert found["time_ns"].tolist() == [10, 40]
    assert found["address"].tolist() == [30, 50]
    assert found["asked"].tolist() == [10, 40]
    assert found["thread"].tolist() == [0, 0]  # nobody saw them submitted
    assert found["flags"].tolist() == [1, 5]
    assert set(found["kind"]) == {native.COPY}


def test_what_is_no_copy_or_not_over_is_left_out(completes: Callable[..., rings.Records]) -> None:
    assert len(completes(copy(DEVICE_TO_HOST, 10, 0), copy(HOST_TO_DEVICE, 10, 30, kind=MEMORY2))) == 0


def test_a_profile_ends_well_where_cupti_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    source = copies.Copies()
    source._aside_since = native.now()

    def is_held() -> None:
        raise Unavailable("cuptiActivityEnable answered ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED")

    monkeypatch.setattr(source, "_start", is_held)
    source.come_back()
    [aside, kept_away] = source.detach()
    assert "torch.profiler had CUPTI" in aside
    assert "not seen after that: cuptiActivityEnable answered" in kept_away


def test_a_child_leaves_cupti_alone_also_where_a_profiler_had_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source = copies.Copies()
    source._aside_since = native.now()
    monkeypatch.setattr(source, "_start", lambda: pytest.fail("CUPTI is started in a child"))
    source.start_in_child()
    source.come_back()
    assert source.detach() == []


def test_a_profiler_has_cupti_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def says(name: str) -> Callable[..., None]:
        return lambda *_: calls.append(name)

    class Held:
        step_aside, come_back = staticmethod(says("aside")), staticmethod(says("back"))

    profiler = ModuleType("profiler")
    for name in ("_prepare_profiler", "_enable_profiler", "_disable_profiler"):
        setattr(profiler, name, says(name))
    monkeypatch.setattr(copies, "_attached", [Held])
    copies._share_with(profiler)
    profiler._prepare_profiler("config", set())
    profiler._enable_profiler("config", set())
    profiler._disable_profiler()
    assert calls == ["aside", "_prepare_profiler", "aside", "_enable_profiler", "_disable_profiler", "back"]
