"""A Ctrl-C at any line of streams: no transfer is lost, nothing is told twice, and all keeps its order."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest
from workbench.kernels.transfers import PART

from tests.simulated_device import COMPUTE, SimulatedDevice
from tests.unit.streamed import EACH_WAY, loads, to_the_end
from workbench.errors import WorkbenchError
from workbench.mechanisms.streams.device import DeviceError
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import PerTransfer, Single, Value
from workbench.mechanisms.streams.work import Block, Transfer
from workbench.recorder.probe import Copy, NullProbe

ON_DEVICE, ON_HOST = Block(0x7000_0000, 1, on_device=True), Block(0x1000, 1, on_device=False)


class Hearing(NullProbe):
    """A probe that knows the last copy when it is told of it again."""

    def __init__(self, interrupted_at: int = 0) -> None:
        self.copies: list[Copy] = []
        self.interrupted_at = interrupted_at

    def copy(self, copy: Copy) -> None:
        if not self.copies or copy is not self.copies[-1]:
            self.copies.append(copy)
            if len(self.copies) == self.interrupted_at:
                raise KeyboardInterrupt


@contextmanager
def interrupted_after(lines: int) -> Iterator[None]:
    """A Ctrl-C after so many lines of what is called, all of them together."""
    left = lines

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if event == "line" and frame.f_code.co_filename.endswith("transfers.py"):
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


@EACH_WAY
def test_an_interrupt_while_transfers_are_taken_in_loses_none(device: SimulatedDevice, value: Value) -> None:
    probe, transfers = Hearing(interrupted_at=3), loads(9)
    with Streams(value, device, COMPUTE, probe=probe) as streams:
        for transfer in transfers:
            streams.submit(transfer)
        with pytest.raises(KeyboardInterrupt):
            to_the_end(streams, device)
    assert len(probe.copies) == len(transfers)
    assert all(transfer.is_over and transfer.error is None for transfer in transfers)


def test_an_interrupt_at_any_line_of_taking_in_loses_none(device: SimulatedDevice) -> None:
    probe, transfers, interrupts = Hearing(), loads(3), 0
    with Streams(PerTransfer(3, has_thread=False), device, COMPUTE, probe=probe) as streams:
        for after in range(250):
            for transfer in transfers:
                streams.submit(transfer)
            device.run(100)
            try:
                with interrupted_after(after):
                    streams.poll()
            except KeyboardInterrupt:
                interrupts += 1
            to_the_end(streams, device)
            assert all(transfer.is_over and transfer.error is None for transfer in transfers)
            assert len(probe.copies) == len(transfers) * (after + 1)
    assert 50 < interrupts < 250  # each line of it, and in the end none


@EACH_WAY
def test_an_interrupt_at_any_line_of_compute_keeps_its_order(device: SimulatedDevice, value: Value) -> None:
    device.choose = max  # the transfers' streams before the compute, wherever that may be
    interrupts = 0
    with Streams(value, device, COMPUTE) as streams:
        for after in range(120):
            device.memory |= {ON_DEVICE.address: "old", ON_HOST.address: None}
            launched = False
            try:
                with interrupted_after(after), streams.compute(writes=[ON_DEVICE]):
                    device.launch(lambda: device.memory.update({ON_DEVICE.address: "new"}))
                    launched = True
            except KeyboardInterrupt:
                interrupts += 1
            streams.wait(streams.submit(Transfer(ON_DEVICE, ON_HOST)))
            assert device.memory[ON_HOST.address] == ("new" if launched else "old"), after
    assert 20 < interrupts < 120


def test_after_an_interrupted_compute_the_ring_goes_around_as_before(device: SimulatedDevice) -> None:
    with Streams(Single(), device, COMPUTE) as streams:
        for after in range(0, 60, 3):
            with suppress(KeyboardInterrupt), interrupted_after(after), streams.compute(writes=[ON_DEVICE]):
                pass
            for _ in range(PART // 5):
                streams.submit(Transfer(ON_HOST, ON_DEVICE))
            to_the_end(streams, device)


def test_while_a_traceback_goes_through_the_end_of_compute_it_has_not_ended(device: SimulatedDevice) -> None:
    transfer = Transfer(ON_DEVICE, ON_HOST)
    with Streams(Single(), device, COMPUTE) as streams:
        compute = streams.compute(writes=[ON_DEVICE])
        with pytest.raises(KeyboardInterrupt), interrupted_after(0):
            compute.__enter__()
        compute.__enter__()
        with pytest.raises(KeyboardInterrupt), interrupted_after(0):
            compute.__exit__()
        with pytest.raises(WorkbenchError, match="submit it after the block"):
            streams.submit(transfer)
        del compute  # as the traceback
        streams.wait(streams.submit(transfer))


def compute_that_fails(streams: Streams, device: SimulatedDevice, *calls: str) -> None:
    """Calls of its end fail."""
    try:
        with streams.compute(writes=[ON_DEVICE]):
            device.launch(lambda: device.memory.update({ON_DEVICE.address: "new"}))
            device.failing |= dict.fromkeys(calls, 0)
    finally:
        device.failing.clear()


@EACH_WAY
def test_compute_whose_end_can_not_be_recorded_is_over_before_what_comes_next(
    device: SimulatedDevice, value: Value
) -> None:
    device.choose = max
    device.memory |= {ON_DEVICE.address: "old", ON_HOST.address: None}
    with Streams(value, device, COMPUTE) as streams:
        with pytest.raises(DeviceError, match="record failed"):
            compute_that_fails(streams, device, "record")
        streams.wait(streams.submit(Transfer(ON_DEVICE, ON_HOST)))
    assert device.memory[ON_HOST.address] == "new"


@EACH_WAY
def test_after_compute_that_nothing_can_be_ordered_with_all_is_refused(device: SimulatedDevice, value: Value) -> None:
    streams = Streams(value, device, COMPUTE)
    with pytest.raises(DeviceError, match="record failed"):
        compute_that_fails(streams, device, "record", "synchronise")
    for _ in range(2):
        with pytest.raises(DeviceError, match="record failed"):
            streams.wait(streams.submit(Transfer(ON_DEVICE, ON_HOST)))
        with pytest.raises(DeviceError, match="record failed"), streams.compute():
            raise AssertionError
    streams.close()
    device.synchronise()
