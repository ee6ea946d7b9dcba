"""The streams, events and copies of a CUDA device.

torch hands out 32 streams a priority and then the same again; these are CUDA's own, as many as are asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError
from workbench.kernels.submission import Submission
from workbench.mechanisms.streams.device import DeviceError
from workbench.mechanisms.streams.transfers import Streams

if TYPE_CHECKING:
    from workbench.mechanisms.streams.values import Value

CALIBRATED_FOR_NS = 2_000_000_000  # an event's time is a 32-bit float of ms: 0.2 us at 2 s, and worse from there
TRIES = 5
NO_CONTEXT = 201  # the driver's CUDA_ERROR_INVALID_CONTEXT


class CudaDevice:
    """The device that is torch's current one."""

    def __init__(self) -> None:
        self._cuda = _runtime()
        self.number = current_device()
        _check(self._cuda.cudaSetDevice(self.number))
        self._submission = Submission()
        self._not_yet = self._cuda.cudaError_t.cudaErrorNotReady
        self._process = os.getpid()
        self._clock = self.make_stream()
        self._marks = [self.make_event() for _ in range(TRIES)]
        self._mark, self._mark_ns = self._read_clocks()

    def make_stream(self) -> int:
        # Non-blocking: the default stream, which torch computes on, would order itself with every other one.
        return int(_answer(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking)))

    def destroy_stream(self, stream: int) -> None:
        _check(self._cuda.cudaStreamDestroy(stream))

    def make_event(self) -> int:
        return int(_answer(self._cuda.cudaEventCreateWithFlags(self._cuda.cudaEventDefault)))

    def destroy_event(self, event: int) -> None:
        _check(self._cuda.cudaEventDestroy(event))

    def record(self, event: int, stream: int) -> None:
        _check(self._cuda.cudaEventRecord(event, stream))

    def wait(self, stream: int, event: int) -> None:
        _check(self._cuda.cudaStreamWaitEvent(stream, event, 0))

    def hand_on(
        self,
        stream: int,
        waits: Sequence[int],
        begin: int,
        target: int,
        source: int,
        size: int,
        direction: int,
        end: int,
    ) -> tuple[int, int]:
        submission = self._submission
        status: int = submission.hand_on(stream, waits, begin, target, source, size, direction, end)
        if status == NO_CONTEXT:  # this thread is new to CUDA, and the copy is not handed on
            _check(self._cuda.cudaSetDevice(self.number))
            status = submission.hand_on(stream, waits, begin, target, source, size, direction, end)
        if status:
            raise DeviceError(_said(self._cuda.cudaError_t(status)))  # the driver's numbers are the runtime's
        times: tuple[int, int] = submission.times()
        return times

    def has_happened(self, event: int) -> bool:
        answer = self._cuda.cudaEventQuery(event)
        if answer[0] == self._not_yet:
            return False
        _check(answer)
        return True

    def synchronise(self, stream: int) -> None:
        _check(self._cuda.cudaStreamSynchronize(stream))

    def time_ns(self, event: int) -> int:
        since_ms: float = _answer(self._cuda.cudaEventElapsedTime(self._mark, event))
        return self._mark_ns + round(since_ms * 1e6)

    def calibrate(self) -> None:
        if time.monotonic_ns() - self._mark_ns > CALIBRATED_FOR_NS:
            self._mark, self._mark_ns = self._read_clocks()

    def close(self) -> None:
        """Give back what the device's clock is read with; in a fork that is the parent's."""
        if os.getpid() != self._process:
            return
        for mark in self._marks:
            self.destroy_event(mark)
        self.destroy_stream(self._clock)

    def _read_clocks(self) -> tuple[int, int]:
        """An event, and the host's time when it happened, from the try that leaves least room for error."""
        _, mark, mark_ns = min(self._read_clock(mark) for mark in self._marks)
        return mark, mark_ns

    def _read_clock(self, mark: int) -> tuple[int, int, int]:
        before = time.monotonic_ns()
        self.record(mark, self._clock)
        self.synchronise(self._clock)
        after = time.monotonic_ns()
        return after - before, mark, (before + after) // 2


@contextmanager
def cuda_streams(value: Value, **known: Any) -> Iterator[Streams]:
    """Streams on torch's current device, in order with the compute on torch's current stream."""
    import torch

    device = CudaDevice()
    try:
        with Streams(value, device, torch.cuda.current_stream(device.number).cuda_stream, **known) as streams:
            yield streams
    finally:
        device.close()


def _runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise UsageError("streams on a CUDA device need cuda-bindings: pip install 'memory-workbench[cuda]'") from None
    return runtime


def current_device() -> int:
    """Torch's current device; refuses where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise UsageError("streams need a CUDA device, and torch finds none here")
    return torch.cuda.current_device()


def _check(answer: tuple[Any, ...]) -> None:
    if answer[0]:
        raise DeviceError(_said(answer[0]))


def _answer(answer: tuple[Any, ...]) -> Any:
    _check(answer)
    return answer[1]


def _said(status: Any) -> str:
    what = _runtime().cudaGetErrorString(status)[1].decode()
    return f"CUDA answered {status.name}: {what}"
