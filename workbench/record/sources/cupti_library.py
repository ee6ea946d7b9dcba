"""The two libraries of NVIDIA's that the driver source needs: CUPTI, as cupti-python loaded it, and NVML."""

from __future__ import annotations

import ctypes
import os
from importlib import import_module
from typing import Any

from workbench.record.sources import Unavailable

Address = ctypes.c_void_p
MOST_DEVICES = 16


def has_cuda() -> bool:
    """Whether the NVIDIA driver is here; asking does not initialise it, which would spoil later forks."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


class DriverApi(ctypes.Structure):
    """struct wb_driver_api of kernels/driver.h."""

    _fields_ = [
        ("next_record", Address),
        ("flush_all", Address),
        ("device_of", Address),
        ("enable", Address),
        ("memory_of", Address),
        ("device_count", ctypes.c_uint32),
        ("devices", Address * MOST_DEVICES),
    ]


class Cupti:
    """The libcupti that cupti-python loaded: its functions by their C names."""

    def __init__(self, copies: bool) -> None:
        if not has_cuda():
            raise Unavailable("this machine has no NVIDIA driver")
        try:
            cupti, loaded = import_module("cupti.cupti"), import_module("cupti._internal.cupti")
            cupti.get_timestamp()  # loads libcupti
            functions = loaded._inspect_function_pointers()
        except ImportError:
            raise Unavailable("cupti-python is not installed: pip install cupti-python") from None
        except Exception as error:  # of cupti-python's own kinds, one for each thing that is not there
            raise Unavailable(f"CUPTI cannot be loaded: {error}") from None
        self._module = cupti
        self._functions = {name.lstrip("_"): pointer for name, pointer in functions.items()}
        # Not MEMCPY2, copies between devices: with it a flush makes the next replay of a captured graph fail.
        kind = cupti.ActivityKind
        self.kinds = (kind.MEMORY2, kind.MEMCPY) if copies else (kind.MEMORY2,)

    def address(self, name: str) -> int:
        """Where a function of libcupti is."""
        return int(self._functions[name])

    def call(self, name: str, *arguments: Any) -> int:
        """Call a function by its C name; returns its status."""
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(self.address(name))(*arguments))

    def error(self, status: int) -> str:
        """The name of a status."""
        return str(self._module.Result(status).name)

    def check(self, name: str, *arguments: Any) -> None:
        """Call a function; raises `Unavailable` unless it succeeds."""
        if status := self.call(name, *arguments):
            raise Unavailable(f"{name} answered {self.error(status)}")


def driver_api(cupti: Cupti) -> DriverApi:
    """What the native callbacks call, by address. Raises `Unavailable` where there is no NVML."""
    handles, memory_of = _nvml()
    return DriverApi(
        cupti.address("cuptiActivityGetNextRecord"),
        cupti.address("cuptiActivityFlushAll"),
        cupti.address("cuptiGetDeviceId"),
        cupti.address("cuptiEnableCallback"),
        memory_of,
        len(handles),
        (Address * MOST_DEVICES)(*handles),
    )


def _nvml() -> tuple[list[int], int]:
    """NVML's handles of the devices CUDA will number 0, 1, …, and where nvmlDeviceGetMemoryInfo is."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [_handle(pynvml, device) for device in visible_devices(pynvml.nvmlDeviceGetCount())]
        memory_of = ctypes.cast(pynvml.nvmlLib.nvmlDeviceGetMemoryInfo, Address).value
    except ImportError:
        raise Unavailable("nvidia-ml-py is not installed: pip install nvidia-ml-py") from None
    except pynvml.NVMLError as error:
        raise Unavailable(f"NVML cannot be used: {error}") from None
    return [ctypes.cast(handle, Address).value or 0 for handle in handles], memory_of or 0


def _handle(pynvml: Any, device: int | str) -> Any:
    if isinstance(device, int):
        return pynvml.nvmlDeviceGetHandleByIndex(device)
    return pynvml.nvmlDeviceGetHandleByUUID(device)


def visible_devices(count: int) -> list[int | str]:
    """NVML's index or UUID of each device that CUDA shows, in CUDA's order, of `count` on the machine.

    Where devices of several models are mixed and CUDA_DEVICE_ORDER is not PCI_BUS_ID, CUDA's order is its own.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return list(range(min(count, MOST_DEVICES)))
    devices: list[int | str] = []
    for text in (part.strip() for part in chosen.split(",")):
        if text.isdigit() and int(text) < count:
            devices.append(int(text))
        elif text.startswith(("GPU-", "MIG-")):
            devices.append(text)
        else:
            break  # CUDA shows none after the first that is not there
    return devices[:MOST_DEVICES]
