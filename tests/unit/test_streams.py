"""Transfers on a simulated device, where blocking, pooling, failures and leaks are exact."""

from __future__ import annotations

import time
from collections import Counter
from statistics import median
from typing import Any

import pytest
from workbench.kernels.transfers import RING, device_of

from tests.probes import Notes
from tests.simulated_device import CLOCK, COMPUTE, SimulatedDevice
from tests.unit.streamed import (
    ALL,
    EACH_VALUE,
    EACH_WAY,
    became,
    loads,
    on_device,
    on_host,
    own,
    submit_behind_compute,
    to_the_end,
)
from workbench.errors import WorkbenchError
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import ANY, Bounded, PerTransfer, Single, Value
from workbench.mechanisms.streams.work import Block, Transfer
from workbench.recorder.probe import DEVICE_TO_HOST, HOST_TO_DEVICE


@EACH_WAY
def test_bytes_go_both_ways(device: SimulatedDevice, value: Value) -> None:
    there, cache, back = on_host(20), on_device(20), [Block(0x2000 + number, 1, False) for number in range(20)]
    device.memory |= {block.address: number for number, block in enumerate(there)}
    with Streams(value, device, COMPUTE) as streams:
        submitted = [streams.submit(Transfer(*ends)) for ends in zip(there, cache, strict=True)]
        submitted += [streams.submit(Transfer(*ends)) for ends in zip(cache, back, strict=True)]
        to_the_end(streams, device)
    assert all(each.is_over for each in submitted)
    assert [device.memory[block.address] for block in back] == list(range(20))


@pytest.mark.parametrize("room", [16, 64, 1024])
def test_a_single_stream_waits_for_room_where_its_queue_is_full(device: SimulatedDevice, room: int) -> None:
    device.room = room
    with Streams(Single(), device, COMPUTE) as streams:
        fits = 1 + (room - 4) // 2  # the first one waits, begins, copies and ends; the others copy and end
        before = device.steps
        submit_behind_compute(streams, device, loads(fits))
        assert (device.found_no_room, device.steps) == (0, before)
        streams.submit(Transfer(Block(1, 1, False), Block(2, 1, True)))
        assert device.found_no_room == 2  # its copy, and its end: the device goes on no further than it must
        assert device.steps > before  # the compute had to end first: who submits was held up for as long


@pytest.mark.parametrize("value", [PerTransfer(64, False), Bounded(4, 255, False)], ids=["per-transfer", "bounded"])
def test_with_more_queues_nobody_waits_for_room(device: SimulatedDevice, value: Value) -> None:
    with Streams(value, device, COMPUTE) as streams:
        before = device.steps
        submit_behind_compute(streams, device, loads(5000))
        assert len(own(device)) == value.limit
        assert max(own(device).values()) - min(own(device).values()) == 0
        assert streams.on_device == value.limit * value.depth
        assert streams.under_way == 5000
        for _ in range(3):
            streams.poll()
        assert (device.found_no_room, device.steps) == (0, before)


def test_a_stream_is_shared_only_while_none_is_idle(device: SimulatedDevice) -> None:
    with Streams(Bounded(3, 2, has_thread=False), device, COMPUTE) as streams:
        submitted = [streams.submit(transfer) for transfer in loads(4)]
        streams.wait(submitted[1])
        submitted.append(streams.submit(Transfer(Block(1, 1, False), Block(2, 1, True))))
        over = {became(each).stream for each in submitted if each.is_over}
    streams_of = [became(each).stream for each in submitted]
    assert len(set(streams_of[:3])) == 3
    assert streams_of[3] == streams_of[0]
    assert streams_of[4] in over


def test_loads_and_stores_never_share(device: SimulatedDevice) -> None:
    for value in ALL:
        with Streams(value, device, COMPUTE) as streams:
            there = [streams.submit(transfer) for transfer in loads(2)]
            back = [streams.submit(Transfer(Block(9, 1, True), Block(at, 1, False))) for at in (5, 6)]
        assert not {became(each).stream for each in there} & {became(each).stream for each in back}


def test_a_shared_stream_has_room_again_when_one_of_its_transfers_is_over(device: SimulatedDevice) -> None:
    with Streams(Bounded(1, 2, has_thread=False), device, COMPUTE) as streams:
        submitted = [streams.submit(transfer) for transfer in loads(3)]
        while not submitted[0].is_over:
            device.go_on()
            streams.poll()
        assert not submitted[1].is_over
        assert streams.on_device == 2


def test_nothing_overtakes_what_is_held_in_its_direction(device: SimulatedDevice) -> None:
    with Streams(PerTransfer(1, has_thread=False), device, COMPUTE) as streams:
        _, held = (streams.submit(transfer) for transfer in loads(2))
        after_it = streams.submit(Transfer(held.target, Block(5, 1, False)))
        other = streams.submit(Transfer(Block(6, 1, True), Block(7, 1, False)))
        assert streams.on_device == 1
        to_the_end(streams, device)
    assert became(after_it).submitted_ns < became(other).submitted_ns


def test_what_is_held_goes_on_in_its_order(device: SimulatedDevice) -> None:
    with Streams(PerTransfer(2, has_thread=False), device, COMPUTE) as streams:
        submitted = [streams.submit(transfer) for transfer in loads(7)]
        assert (streams.on_device, streams.under_way) == (2, 7)
        to_the_end(streams, device)
    begun = [became(each).submitted_ns for each in submitted]
    assert begun == sorted(begun)


def test_a_poll_does_no_more_than_it_is_asked_for(device: SimulatedDevice) -> None:
    with Streams(PerTransfer(8, has_thread=False), device, COMPUTE) as streams:
        for transfer in loads(20):
            streams.submit(transfer)
        device.run(1000)
        assert streams.poll(most=3) == 17
        assert streams.on_device == 8


def test_prepared_streams_make_nothing_while_submitting(device: SimulatedDevice) -> None:
    with Streams(Bounded(4, 8, has_thread=False), device, COMPUTE) as streams:
        before = device.made["make_stream"]
        streams.prepare(50)
        made = device.made["make_stream"], device.made["make_event"]
        assert made[0] - before == 2 * 4
        submit_behind_compute(streams, device, loads(50))
        assert (device.made["make_stream"], device.made["make_event"]) == made


@EACH_VALUE
def test_compute_waits_on_the_host_only_for_what_the_device_does_not_have(
    device: SimulatedDevice, value: Value
) -> None:
    transfers = loads(9)
    with Streams(value, device, COMPUTE) as streams:
        for transfer in transfers:
            streams.submit(transfer)
        before = device.steps
        with streams.compute(reads=[transfers[0].target]):
            assert device.steps == before
        with streams.compute(reads=[transfers[-1].target]):
            assert (device.steps == before) == (value.depth == ANY)


# --- what is told


@EACH_WAY
def test_every_copy_is_told_with_all_its_times(device: SimulatedDevice, value: Value) -> None:
    told, before = Notes(), time.monotonic_ns()
    with Streams(value, device, COMPUTE, probe=told) as streams:
        submitted = [streams.submit(transfer) for transfer in loads(5)]
        submitted.append(streams.submit(Transfer(submitted[0].target, Block(5, 1, False))))
        device.run(1000)  # more comes onto streams on which all is over, and nobody has looked
        submitted += [streams.submit(Transfer(*ends)) for ends in zip(on_host(5), on_device(5), strict=True)]
        to_the_end(streams, device)
    assert told.said["streams"] == {
        "value": value.name,
        "limit": value.limit,
        "depth": value.depth,
        "has_thread": value.has_thread,
        "ordering": "ordered",
    }
    assert Counter(copy.direction for copy in told.copies) == {HOST_TO_DEVICE: 10, DEVICE_TO_HOST: 1}
    by_handing = {copy.handed_ns: copy for copy in told.copies}
    for each in submitted:
        copy = by_handing[became(each).handed_ns]
        assert (copy.bytes, copy.stream, copy.device) == (1, became(each).stream, 0)
        assert (copy.call_ns, copy.ended_ns) == (became(each).call_ns, became(each).ended_ns)
        assert copy.call_ns > 0
        assert before <= copy.submitted_ns <= copy.handed_ns <= copy.began_ns <= copy.ended_ns


class Drifting(SimulatedDevice):
    """A device whose clock is fast by a thousandth, and which has time for marks whatever else is under way."""

    def _record(self, event: int, stream: int) -> None:
        super()._record(event, stream)
        while self.queues[CLOCK]:
            self._step(CLOCK)

    def _elapsed_ms(self, elapsed: Any, start: int, end: int) -> None:
        super()._elapsed_ms(elapsed, start, end)
        elapsed[0] *= 1.001


def test_a_clock_that_drifts_is_followed_while_transfers_are_under_way() -> None:
    device, transfers, off_ns = Drifting(), loads(3), []
    begun = time.monotonic()
    with Streams(Single(), device, COMPUTE) as streams:
        while (passed := time.monotonic() - begun) < 3:
            for each in transfers:
                if not each.is_under_way and streams.under_way < 2:
                    streams.submit(each)
            before = time.monotonic_ns()
            device.run(1)
            after = time.monotonic_ns()
            under_way = [each for each in transfers if each.is_under_way]
            assert streams.poll()
            if passed > 1.5:  # a second mark tells how fast the clock is
                ended = [became(each).ended_ns for each in under_way if each.is_over]
                off_ns += [max(before - end, end - after) for end in ended]
        times = [became(each) for each in transfers if each.is_over]
    assert len(off_ns) > 1000
    assert median(off_ns) < 20_000  # a thousandth of 3 s is 3 ms
    assert all(each.submitted_ns <= each.handed_ns <= each.began_ns <= each.ended_ns for each in times)


# --- a thread that hands on


def test_who_submits_to_a_thread_is_not_held_up_by_the_driver(device: SimulatedDevice) -> None:
    device.room = 16
    with Streams(Single(has_thread=True), device, COMPUTE) as streams:
        with device.held_up():
            submitted = [streams.submit(transfer) for transfer in loads(100)]
            assert streams.on_device == 0
            submitted_by = time.monotonic_ns()
            time.sleep(0.01)
        for each in submitted:
            streams.wait(each)
        assert all(became(each).submitted_ns <= submitted_by for each in submitted)
        assert all(became(each).handed_ns > submitted_by for each in submitted[1:])


def test_a_thread_that_sleeps_is_woken_by_what_is_submitted(device: SimulatedDevice) -> None:
    with Streams(PerTransfer(limit=3), device, COMPUTE) as streams:
        for transfer in loads(20):
            time.sleep(0.002)  # it is awake for a tenth of that
            streams.submit(transfer)
            until = time.monotonic() + 10
            while not streams.on_device and time.monotonic() < until:
                time.sleep(0.0001)
            assert streams.on_device, "nobody handed it on"
            to_the_end(streams, device)


def test_more_than_the_ring_holds_can_be_submitted(device: SimulatedDevice) -> None:
    [load] = loads(1)
    with Streams(PerTransfer(limit=1), device, COMPUTE) as streams:
        with device.held_up():
            streams.submit(load)
        many = [streams.submit(Transfer(load.source, load.target)) for _ in range(RING + 10)]
        assert not many[-1].is_over
        streams.wait(many[-1])
        assert all(each.is_over for each in many)


def test_the_ring_is_gone_round_and_round(device: SimulatedDevice) -> None:
    some = loads(100)
    with Streams(Bounded(limit=4, depth=25, has_thread=False), device, COMPUTE) as streams:
        for number in range(3 * RING // 100):
            device.memory |= {each.source.address: (number, each.source.address) for each in some}
            for each in some:
                streams.submit(each)
            device.run(1000)
            while streams.poll():
                pass
            assert all(device.memory[each.target.address] == (number, each.source.address) for each in some)


def test_a_driver_that_is_none_is_refused_in_one_line() -> None:
    with pytest.raises(WorkbenchError, match=r"^libm\.so\.6 is no CUDA driver that streams can use \(500\)$"):
        device_of("libm.so.6")
    with pytest.raises(WorkbenchError, match=r"^libnone\.so is no CUDA driver that streams can use \(303\)$"):
        device_of("libnone.so")
