"""Streams on a CUDA device.

torch hands out 32 streams a priority and then the same again; these are CUDA's own, as many as are asked for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError
from workbench.kernels.transfers import DRIVER, device_of
from workbench.mechanisms.streams.device import DeviceError
from workbench.mechanisms.streams.transfers import Streams

if TYPE_CHECKING:
    from workbench.mechanisms.streams.values import Value


class CudaDevice:
    """The device that is torch's current one."""

    def __init__(self) -> None:
        import torch

        self.number = current_device()
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.cuda.set_device(self.number)  # makes its context the current one
        self.functions = device_of()
        self._driver = ctypes.CDLL(DRIVER)
        context = ctypes.c_void_p()
        if status := self._driver.cuCtxGetCurrent(ctypes.byref(context)):
            raise DeviceError(self.said(status))
        self.context = context.value or 0

    def said(self, status: int) -> str:
        return f"CUDA answered {self._text('cuGetErrorName', status)}: {self._text('cuGetErrorString', status)}"

    def _text(self, function: str, status: int) -> str:
        text = ctypes.c_char_p()
        getattr(self._driver, function)(status, ctypes.byref(text))
        return (text.value or b"unknown").decode()


@contextmanager
def cuda_streams(value: Value, **known: Any) -> Iterator[Streams]:
    """Streams on torch's current device, in order with the compute on torch's current stream."""
    import torch

    device = CudaDevice()
    with Streams(value, device, torch.cuda.current_stream(device.number).cuda_stream, **known) as streams:
        yield streams


def current_device() -> int:
    """Torch's current device; refuses where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise UsageError("streams need a CUDA device, and torch finds none here")
    return torch.cuda.current_device()
