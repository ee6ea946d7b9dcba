from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.errors import RunError
from workbench.recorder.truth import Devices


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
