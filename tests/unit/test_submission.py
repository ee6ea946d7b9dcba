"""Copies handed on in one call, to a driver of the tests' own that does nothing and writes it down."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workbench.kernels.submission import Submission

from tests.simulated_device import COMPUTE
from workbench.errors import WorkbenchError
from workbench.mechanisms.streams.cuda_device import CudaDevice
from workbench.mechanisms.streams.device import DeviceError
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import PerTransfer
from workbench.mechanisms.streams.work import Block, Transfer
from workbench.recorder.probe import DEVICE_TO_HOST, HOST_TO_DEVICE

SOURCE = Path(__file__).parent / "cuda" / "submitted.c"
WAIT, RECORD, TO_DEVICE, TO_HOST = 1, 2, 3, 4
STREAM, BEGIN, END = 0x7F00_0000_0010, 0x7F00_0000_0020, 0x7F00_0000_0030  # as high as pointers are
TARGET, FROM, SIZE = 0x7000_0000_0000, 0xFFFF_8000_0000_0000, 1 << 33


class Driver:
    """The driver's side: what it was asked for."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._library = ctypes.CDLL(self.path)
        self._called = ctypes.c_int64.in_dll(self._library, "test_called")
        self._fails_at = ctypes.c_int64.in_dll(self._library, "test_fails_at")
        self._status = ctypes.c_int64.in_dll(self._library, "test_status")
        self._calls = (ctypes.c_uint64 * 5 * 16).in_dll(self._library, "test_calls")

    def fail(self, call: int = -1, status: int = 0) -> None:
        """Have a call from here on fail, counted from 0; forget those before it."""
        self._called.value, self._fails_at.value, self._status.value = 0, call, status

    def calls(self) -> list[tuple[int, ...]]:
        return [tuple(call) for call in self._calls[: self._called.value]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    made = tmp_path_factory.mktemp("driver") / "libsubmitted.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", str(SOURCE), "-o", str(made)], check=True)
    return Driver(made)


@pytest.fixture
def driver(built: Driver) -> Iterator[Driver]:
    built.fail()
    yield built
    built.fail()


class DeviceOfDriver(CudaDevice):
    """A device whose copies go to the tests' driver. Nothing becomes of them; streams and events are numbers."""

    def __init__(self, driver: Driver) -> None:
        self._submission = Submission(driver.path)
        self._cuda = pytest.importorskip("cuda.bindings.runtime")
        self.number, self.made = 0, 0x7F00_0000_0000

    def make_stream(self) -> int:
        self.made += 16
        return self.made

    def make_event(self) -> int:
        return self.make_stream()

    def destroy_stream(self, stream: int) -> None: ...

    def destroy_event(self, event: int) -> None: ...

    def synchronise(self, stream: int) -> None: ...


@pytest.mark.parametrize(("direction", "copy"), [(HOST_TO_DEVICE, TO_DEVICE), (DEVICE_TO_HOST, TO_HOST)])
def test_everything_of_a_copy_is_handed_on_in_its_order(driver: Driver, direction: int, copy: int) -> None:
    handed = Submission(driver.path).hand_on(STREAM, [7, 1 << 47], BEGIN, TARGET, FROM, SIZE, direction, END)
    assert handed == 0
    assert driver.calls() == [
        (WAIT, 7, 0, 0, STREAM),
        (WAIT, 1 << 47, 0, 0, STREAM),
        (RECORD, BEGIN, 0, 0, STREAM),
        (copy, TARGET, FROM, SIZE, STREAM),
        (RECORD, END, 0, 0, STREAM),
    ]


def test_what_one_copy_awaits_the_next_does_not(driver: Driver) -> None:
    submission = Submission(driver.path)
    many = list(range(100, 112))  # more than there is room for at first
    for waits in (many, [], [5]):
        driver.fail()
        submission.hand_on(STREAM, waits, 0, TARGET, FROM, SIZE, HOST_TO_DEVICE, END)
        assert [call[1] for call in driver.calls() if call[0] == WAIT] == waits
        assert [call[0] for call in driver.calls()][len(waits) :] == [TO_DEVICE, RECORD]


def test_its_times_are_of_the_one_clock(driver: Driver) -> None:
    submission = Submission(driver.path)
    before = time.monotonic_ns()
    submission.hand_on(STREAM, [], 0, TARGET, FROM, SIZE, HOST_TO_DEVICE, END)
    after = time.monotonic_ns()
    submitted_ns, call_ns = submission.times()
    assert before <= submitted_ns <= submitted_ns + call_ns <= after


@pytest.mark.parametrize("fails", range(4))
def test_after_a_call_that_fails_nothing_more_is_handed_on(driver: Driver, fails: int) -> None:
    driver.fail(fails, 700)
    submission = Submission(driver.path)
    assert submission.hand_on(STREAM, [7], BEGIN, TARGET, FROM, SIZE, HOST_TO_DEVICE, END) == 700
    assert [call[0] for call in driver.calls()] == [WAIT, RECORD, TO_DEVICE, RECORD][: fails + 1]


@pytest.mark.parametrize("fails", range(3))
def test_a_transfer_that_fails_in_the_middle_gives_all_back_and_says_what_cuda_says(driver: Driver, fails: int) -> None:
    device = DeviceOfDriver(driver)
    streams = Streams(PerTransfer(), device, COMPUTE)
    transfer = Transfer(Block(FROM, 4096, on_device=False), Block(TARGET, 4096, on_device=True))
    made = set()
    for _ in range(100):
        driver.fail(fails, 1)
        with pytest.raises(DeviceError, match=r"^CUDA answered cudaErrorInvalidValue"):
            streams.submit(transfer)
        made.add(device.made)
    assert len(made) == 1
    assert streams.under_way == 0


def test_a_driver_that_is_none_is_refused_in_one_line() -> None:
    """In a process of its own: a process has one driver."""
    program = "from workbench.kernels.submission import Submission\nSubmission('libm.so.6')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=os.environ)
    assert WorkbenchError.__name__ in done.stderr
    assert done.stderr.splitlines()[-1].endswith("libm.so.6 is no CUDA driver that streams can use (500)")
