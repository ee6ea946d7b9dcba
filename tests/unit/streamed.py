"""What tests of streams share: values, transfers on a simulated device, and ways to the end."""

from __future__ import annotations

import pytest

from tests.simulated_device import CLOCK, SimulatedDevice
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import Bounded, PerTransfer, Single, Value
from workbench.mechanisms.streams.work import Block, Result, Transfer

ALL: list[Value] = [Single(), PerTransfer(3, has_thread=False), Bounded(2, 2, has_thread=False)]
WITH_THREAD: list[Value] = [Single(has_thread=True), PerTransfer(3), Bounded(2, 2)]
EACH_VALUE = pytest.mark.parametrize("value", ALL, ids=lambda value: value.name)
EACH_WAY = pytest.mark.parametrize(
    "value", ALL + WITH_THREAD, ids=lambda value: value.name + "-by-a-thread" * value.has_thread
)


def on_host(count: int) -> list[Block]:
    return [Block(0x1000 + number, 1, on_device=False) for number in range(count)]


def on_device(count: int) -> list[Block]:
    return [Block(0x7000_0000 + number, 1, on_device=True) for number in range(count)]


def loads(count: int) -> list[Transfer]:
    return [Transfer(*ends) for ends in zip(on_host(count), on_device(count), strict=True)]


def submit_behind_compute(streams: Streams, device: SimulatedDevice, transfers: list[Transfer]) -> list[Transfer]:
    """Submit transfers that wait for a compute which ends when nothing else can go on."""
    with streams.compute(writes=[transfer.target for transfer in transfers]):
        device.launch_long()
    return [streams.submit(transfer) for transfer in transfers]


def to_the_end(streams: Streams, device: SimulatedDevice) -> None:
    while streams.poll():
        assert device.goes_on() or streams.value.has_thread  # which may be about to


def own(device: SimulatedDevice) -> dict[int, int]:
    """By stream of transfers, how much it still has to do."""
    return {stream: len(queue) for stream, queue in device.queues.items() if stream > CLOCK and queue}


def became(transfer: Transfer) -> Result:
    """What became of a transfer that is over."""
    assert transfer.result
    return transfer.result
