"""How many streams and transfers on them there may be: the device's queues have room for so much."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulated_device import CLOCK, COMPUTE, SimulatedDevice
from workbench.errors import UsageError
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import (
    MOST_SHARING,
    OF_ITS_OWN,
    ROOM,
    SHARING,
    VALUES,
    Bounded,
    PerTransfer,
    Value,
    queues,
)
from workbench.mechanisms.streams.work import Block, Transfer

TRIES = 5  # events that the clock is read with


def both_ways(count: int) -> list[Transfer]:
    """Loads and stores in turn."""
    host = (Block(0x1000_0000 + number, 1, on_device=False) for number in range(count))
    cache = (Block(0x7000_0000 + number, 1, on_device=True) for number in range(count))
    ends = enumerate(zip(host, cache, strict=True))
    return [Transfer(there, here) if number % 2 else Transfer(here, there) for number, (here, there) in ends]


@pytest.mark.parametrize("queues", [1, 8, 32])
@pytest.mark.parametrize("make", [PerTransfer, Bounded])
def test_transfers_leave_half_of_the_devices_queues_to_compute(
    make: Callable[..., Value], queues: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's queues are fewer than streams: these are dealt out to them in turn."""
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", str(queues))
    transfers = both_ways(16_000)
    device = SimulatedDevice()
    streams = Streams(make(has_thread=False), device, COMPUTE)  # never closed: so many take long to simulate
    before = device.steps
    with streams.compute(writes=[transfer.source for transfer in transfers]):
        device.launch_long()
    for transfer in transfers:
        streams.submit(transfer)
    assert streams.on_device < streams.under_way
    depths = [len(queue) for stream, queue in sorted(device.queues.items()) if stream > CLOCK]
    assert max(sum(depths[queue::queues]) for queue in range(queues)) <= ROOM
    entries = device.made["copy"] + device.made["record"] - 1 - TRIES  # those of the compute and of the clock
    assert 0.4 <= entries / (queues * ROOM) <= 0.5
    assert (device.found_no_room, device.steps) == (0, before)


@pytest.mark.parametrize("limit", [1, 2, 32, 64, 100, 1000])
def test_a_depth_that_nobody_gave_fits_the_limit(limit: int) -> None:
    value = Bounded(limit=limit)
    entries = limit * (value.depth * SHARING + OF_ITS_OWN - SHARING)
    assert entries <= queues() * ROOM // 4 or value.depth == 1
    assert entries + limit * SHARING > queues() * ROOM // 4 or value.depth == MOST_SHARING


@pytest.mark.parametrize(("told", "expected"), [("", 8), ("4", 4), ("0", 1), ("99", 32), ("many", 8), ("-1", 8)])
def test_how_many_queues_there_are_is_what_cuda_is_told(
    told: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", told)
    assert queues() == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PerTransfer(limit=0), "limit must be at least 1, not 0"),
        (lambda: Bounded(limit=0), "limit must be at least 1, not 0"),
        (lambda: Bounded(depth=-1), "depth must be at least 1, not -1"),
        (lambda: Bounded(depth=1000), "with limit 32 depth can be up to 63, not 1000: more could fill the device's"),
        (lambda: Bounded(limit=2, depth=256), "with limit 2 depth can be up to 255, not 256"),
        (lambda: Bounded(limit=1363, depth=1), "limit can be up to 1362, not 1363: more could fill the device's"),
        (lambda: PerTransfer(limit=1363), "limit can be up to 1362, not 1363: more could fill the device's queues"),
    ],
)
def test_what_could_fill_the_queues_or_has_nothing_to_lend_is_refused(
    make: Callable[[], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS", raising=False)
    with pytest.raises(UsageError) as refused:
        make()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_each_value_is_found_by_its_name() -> None:
    assert {name: made().name for name, made in VALUES.items()} == {
        name: name for name in ("single", "per-transfer", "bounded")
    }
