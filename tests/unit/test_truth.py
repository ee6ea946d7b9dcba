from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.errors import RunError
from workbench.recorder.book import Book
from workbench.recorder.settings import SPOOL
from workbench.recorder.truth import Devices
from workbench.run.sealing import read_coded


class Refused(Exception):
    """As pynvml.NVMLError."""


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Any:
    """NVML with two devices, of which `nvml.refuses` do not say what they use."""

    def memory(handle: int) -> SimpleNamespace:
        if handle in made.refuses:
            raise Refused("Insufficient Permissions")
        return SimpleNamespace(used=10 + handle)

    made = SimpleNamespace(
        NVMLError=Refused,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=int,
        nvmlDeviceGetMemoryInfo=memory,
        refuses=set(),
    )
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def test_where_nvml_does_not_say_what_is_used_there_are_no_devices(nvml: Any) -> None:
    assert Devices().used() == [10, 11]
    nvml.refuses.add(1)
    assert Devices().used() == []
    assert Devices().describe() == []


def test_a_device_that_falls_silent_ends_the_recording_in_a_line(nvml: Any) -> None:
    devices = Devices()
    nvml.refuses.add(1)
    with pytest.raises(RunError, match=r"NVML does not say what GPUs use: Insufficient Permissions"):
        devices.used()


def test_an_edge_is_when_the_devices_were_read_and_not_when_it_was_told(nvml: Any, tmp_path: Path) -> None:
    (tmp_path / SPOOL).mkdir()
    started, devices = time.monotonic_ns(), Devices()
    book = Book(tmp_path, started, devices, devices.used())
    told_ns = time.monotonic_ns()
    book.phase("load", told_ns, "start", (1, 1))
    answered_ns = time.monotonic_ns()
    (edge,) = read_coded(tmp_path, "phases")["start_ns"].to_pylist()
    assert told_ns < edge + started < answered_ns
    at_edge = [row for row in read_coded(tmp_path, "totals").to_pylist() if row["time_ns"] == edge]
    assert [row["bytes"] for row in at_edge] == [10, 11]
