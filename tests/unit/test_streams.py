"""Transfers on a simulated device, where blocking, pooling, failures and leaks are exact."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch

from tests.probes import Notes
from tests.simulated_device import COMPUTE, SimulatedDevice
from workbench.errors import UsageError, WorkbenchError
from workbench.mechanisms.streams.device import DeviceError
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import ANY, Bounded, PerTransfer, Single, Value
from workbench.mechanisms.streams.work import Block, Handle, Transfer, blocks_of
from workbench.recorder.probe import DEVICE_TO_HOST, HOST_TO_DEVICE

ALL: list[Value] = [Single(), PerTransfer(limit=3), Bounded(limit=2, depth=2)]
NAMES = [value.name for value in ALL]
EACH_VALUE = pytest.mark.parametrize("value", ALL, ids=NAMES)


def on_host(count: int) -> list[Block]:
    return [Block(0x1000 + number, 1, on_device=False) for number in range(count)]


def on_device(count: int) -> list[Block]:
    return [Block(0x7000_0000 + number, 1, on_device=True) for number in range(count)]


def loads(count: int) -> list[Transfer]:
    return [Transfer(*ends) for ends in zip(on_host(count), on_device(count), strict=True)]


def submit_behind_compute(streams: Streams, device: SimulatedDevice, transfers: list[Transfer]) -> list[Handle]:
    """Submit transfers that wait for a compute which ends when nothing else can go on."""
    with streams.compute(writes=[transfer.target for transfer in transfers]):
        device.launch_long()
    return [streams.submit(transfer) for transfer in transfers]


def to_the_end(streams: Streams, device: SimulatedDevice) -> None:
    while streams.poll():
        device.go_on()


@pytest.fixture
def device() -> Iterator[SimulatedDevice]:
    """A device on which nothing may be left in the end."""
    made = SimulatedDevice()
    yield made
    assert set(made.queues) == {COMPUTE}
    assert not made.events


@EACH_VALUE
def test_bytes_go_both_ways(device: SimulatedDevice, value: Value) -> None:
    there, cache, back = on_host(20), on_device(20), [Block(0x2000 + number, 1, False) for number in range(20)]
    device.memory |= {block.address: number for number, block in enumerate(there)}
    with Streams(value, device, COMPUTE) as streams:
        handles = [streams.submit(Transfer(*ends)) for ends in zip(there, cache, strict=True)]
        handles += [streams.submit(Transfer(*ends)) for ends in zip(cache, back, strict=True)]
        to_the_end(streams, device)
    assert all(handle.is_over for handle in handles)
    assert [device.memory[block.address] for block in back] == list(range(20))


@pytest.mark.parametrize("room", [16, 64, 1024])
def test_a_single_stream_waits_for_room_where_its_queue_is_full(device: SimulatedDevice, room: int) -> None:
    device.room = room
    with Streams(Single(), device, COMPUTE) as streams:
        fits = 1 + (room - 4) // 2  # the first one waits, begins, copies and ends; the others copy and end
        submit_behind_compute(streams, device, loads(fits))
        assert (device.found_no_room, device.steps) == (0, 0)
        streams.submit(Transfer(Block(1, 1, False), Block(2, 1, True)))
        assert device.found_no_room == 2  # its copy, and its end: the device goes on no further than it must
        assert device.steps  # the compute had to end first: who submits was held up for as long


@pytest.mark.parametrize("value", [PerTransfer(limit=64), Bounded(limit=4, depth=255)], ids=["per-transfer", "bounded"])
def test_with_more_queues_nobody_waits_for_room(device: SimulatedDevice, value: Value) -> None:
    with Streams(value, device, COMPUTE) as streams:
        handles = submit_behind_compute(streams, device, loads(5000))
        lent = Counter(handle.stream for handle in handles if handle.stream is not None)
        assert len(lent) == value.limit
        assert set(lent.values()) == {value.depth}
        assert sum(handle.is_held for handle in handles) == 5000 - value.limit * value.depth
        for _ in range(3):
            streams.poll()
        assert (device.found_no_room, device.steps) == (0, 0)


def test_a_stream_is_shared_only_while_none_is_idle(device: SimulatedDevice) -> None:
    with Streams(Bounded(limit=3, depth=2), device, COMPUTE) as streams:
        first, *others = [streams.submit(transfer) for transfer in loads(4)]
        streams_of = [handle.stream for handle in (first, *others)]
        assert len(set(streams_of[:3])) == 3
        assert streams_of[3] == streams_of[0]
        streams.wait(others[0])
        last = streams.submit(Transfer(Block(1, 1, False), Block(2, 1, True)))
        assert last.stream in {handle.stream for handle in (first, *others) if handle.is_over}


def test_loads_and_stores_never_share(device: SimulatedDevice) -> None:
    for value in ALL:
        with Streams(value, device, COMPUTE) as streams:
            there = [streams.submit(transfer).stream for transfer in loads(2)]
            back = [streams.submit(Transfer(Block(9, 1, True), Block(at, 1, False))).stream for at in (5, 6)]
        assert not set(there) & set(back)


def test_a_shared_stream_has_room_again_when_one_of_its_transfers_is_over(device: SimulatedDevice) -> None:
    with Streams(Bounded(limit=1, depth=2), device, COMPUTE) as streams:
        handles = [streams.submit(transfer) for transfer in loads(3)]
        while not handles[0].is_over:
            device.go_on()
            streams.poll()
        assert not handles[1].is_over
        assert not handles[2].is_held


def test_nothing_overtakes_what_is_held_in_its_direction(device: SimulatedDevice) -> None:
    with Streams(PerTransfer(limit=1), device, COMPUTE) as streams:
        _, held = (streams.submit(transfer) for transfer in loads(2))
        after_it = streams.submit(Transfer(held.transfer.target, Block(5, 1, False)))
        other = streams.submit(Transfer(Block(6, 1, True), Block(7, 1, False)))
        assert after_it.is_held
        assert other.is_held
        to_the_end(streams, device)
    assert after_it.submitted_ns < other.submitted_ns


def test_what_is_held_goes_on_in_its_order(device: SimulatedDevice) -> None:
    with Streams(PerTransfer(limit=2), device, COMPUTE) as streams:
        handles = [streams.submit(transfer) for transfer in loads(7)]
        assert [handle.is_held for handle in handles] == [False] * 2 + [True] * 5
        to_the_end(streams, device)
    begun = [handle.submitted_ns for handle in handles]
    assert begun == sorted(begun)


def test_a_poll_does_no_more_than_it_is_asked_for(device: SimulatedDevice) -> None:
    with Streams(PerTransfer(limit=8), device, COMPUTE) as streams:
        handles = [streams.submit(transfer) for transfer in loads(20)]
        device.run(1000)
        assert streams.poll(most=3) == 17
        assert sum(handle.stream is not None for handle in handles) == 11


def test_prepared_streams_make_nothing_while_submitting(device: SimulatedDevice) -> None:
    with Streams(Bounded(limit=4, depth=8), device, COMPUTE) as streams:
        streams.prepare(50)
        made = device.made["make_stream"], device.made["make_event"]
        assert made[0] == 2 * 4
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
        with streams.compute(reads=[transfers[0].target]):
            assert device.steps == 0
        with streams.compute(reads=[transfers[-1].target]):
            assert (device.steps == 0) == (value.depth == ANY)


# --- failures


CALLS = ["make_stream", "make_event", "record", "wait", "copy"]


@EACH_VALUE
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("after", [0, 1])
def test_what_was_lent_to_a_transfer_that_raises_comes_back(
    device: SimulatedDevice, value: Value, call: str, after: int
) -> None:
    transfers = loads(2)
    with Streams(value, device, COMPUTE) as streams:
        with streams.compute(reads=[transfers[0].target, transfers[1].target]):
            device.launch_long()
        device.failing[call] = after
        failed = 0
        for transfer in transfers:
            try:
                streams.submit(transfer)
            except DeviceError:
                failed += 1
        device.failing.clear()
        assert failed or (after, call) in {(1, "make_stream"), (1, "wait")}
        assert streams.under_way == 2 - failed
        for transfer in transfers:
            streams.wait(streams.submit(transfer))


@EACH_VALUE
def test_a_thousand_failures_leak_nothing(device: SimulatedDevice, value: Value) -> None:
    [transfer] = loads(1)
    with Streams(value, device, COMPUTE) as streams:
        for call in ("record", "copy"):
            for number in range(1000):
                device.failing = {call: number % 2 if call == "record" else 0}
                with pytest.raises(DeviceError):
                    streams.submit(transfer)
        assert device.made["make_stream"] == 1
        assert device.made["make_event"] <= 2
        device.failing.clear()
        device.memory[transfer.source.address] = "bytes"
        streams.wait(streams.submit(transfer))
    assert device.memory[transfer.target.address] == "bytes"


def test_a_held_transfer_that_fails_says_so_and_stops_no_other(device: SimulatedDevice) -> None:
    transfers = loads(5)
    device.memory |= {transfer.source.address: number for number, transfer in enumerate(transfers)}
    with Streams(PerTransfer(limit=1), device, COMPUTE) as streams:
        handles = [streams.submit(transfer) for transfer in transfers]
        device.failing["copy"] = 1  # of those that are held the second
        with pytest.raises(DeviceError, match="copy failed"):
            to_the_end(streams, device)
        device.failing.clear()
        to_the_end(streams, device)
        with pytest.raises(DeviceError, match="copy failed"):
            streams.wait(handles[2])
    assert [device.memory.get(transfer.target.address) for transfer in transfers] == [0, 1, None, 3, 4]


def test_streams_that_can_not_be_made_hold_nobody_up_forever(device: SimulatedDevice) -> None:
    with Streams(PerTransfer(limit=1), device, COMPUTE) as streams:
        first, second = (streams.submit(transfer) for transfer in loads(2))
        store = streams.submit(Transfer(second.transfer.target, Block(5, 1, False)))
        assert store.is_held  # behind a load that is held, so it has no stream yet
        device.broken.add("make_stream")
        with pytest.raises(DeviceError, match="make_stream failed"):
            streams.wait(store)
        assert first.is_over
        assert second.is_over
        device.broken.clear()
        streams.wait(store)


def test_what_a_compute_waits_for_and_fails_is_told_before_it_computes(device: SimulatedDevice) -> None:
    transfers = loads(2)
    with Streams(PerTransfer(limit=1), device, COMPUTE) as streams:
        for transfer in transfers:
            streams.submit(transfer)
        device.failing["copy"] = 0
        computed = []
        with pytest.raises(DeviceError, match="copy failed"), streams.compute(reads=[transfers[1].target]):
            computed.append(1)
    assert not computed


def test_a_device_that_fails_at_the_end_keeps_no_stream(
    device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(event: int) -> bool:
        raise DeviceError("lost")

    streams = Streams(Bounded(limit=2, depth=2), device, COMPUTE)
    handles = [streams.submit(transfer) for transfer in loads(9)]
    device.run(100)
    monkeypatch.setattr(device, "has_happened", fails)
    with pytest.raises(DeviceError, match="lost"):
        streams.close()
    assert all(handle.is_over and handle.error for handle in handles)


# --- leaks and misuse


@EACH_VALUE
def test_a_thousand_rounds_need_what_the_first_needed(device: SimulatedDevice, value: Value) -> None:
    transfers = loads(6)
    made = set()
    with Streams(value, device, COMPUTE) as streams:
        for _ in range(1000):
            submit_behind_compute(streams, device, transfers)
            to_the_end(streams, device)
            made.add((len(device.queues), len(device.events)))
    assert len(made) == 1


@EACH_VALUE
def test_a_thousand_streams_are_opened_and_closed(device: SimulatedDevice, value: Value) -> None:
    transfers = loads(4)
    for _ in range(1000):
        with Streams(value, device, COMPUTE) as streams:
            for transfer in transfers:
                streams.submit(transfer)
    assert set(device.queues) == {COMPUTE}


def test_the_last_transfers_are_waited_for(device: SimulatedDevice) -> None:
    with Streams(Bounded(limit=1, depth=1), device, COMPUTE) as streams:
        handles = [streams.submit(transfer) for transfer in loads(5)]
    assert all(handle.is_over and handle.error is None for handle in handles)


USES: dict[str, Callable[[Streams], object]] = {
    "submit": lambda streams: streams.submit(loads(1)[0]),
    "poll": lambda streams: streams.poll(),
    "prepare": lambda streams: streams.prepare(1),
    "compute": lambda streams: streams.compute().__enter__(),
    "wait": lambda streams: streams.wait(Handle(0, loads(1)[0], [])),
}


@pytest.mark.parametrize("use", USES)
def test_closed_streams_say_so(device: SimulatedDevice, use: str) -> None:
    streams = Streams(Single(), device, COMPUTE)
    streams.close()
    streams.close()
    with pytest.raises(WorkbenchError, match=r"^these streams are closed: make new ones$"):
        USES[use](streams)


def test_a_fork_notices_that_the_streams_are_its_parents(device: SimulatedDevice) -> None:
    streams = Streams(PerTransfer(), device, COMPUTE)
    handle = streams.submit(loads(1)[0])
    child = os.fork()
    if not child:
        messages = set()
        for use in USES.values():
            try:
                use(streams)
            except WorkbenchError as error:
                messages.add(str(error))
        streams.close()
        untouched = device.steps == 0 and len(device.queues) == 2
        said = f"these streams are process {os.getppid()}'s, and this is its fork: CUDA needs a `spawn`"
        os._exit(0 if untouched and messages == {said} else 1)
    assert os.waitpid(child, 0)[1] == 0
    streams.wait(handle)
    streams.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transfer(Block(0, 2, True), Block(0, 3, False)), "a block of 2 bytes does not fit into one of 3"),
        (lambda: Transfer(Block(0, 2, True), Block(9, 2, True)), "a transfer has one end on the device and one"),
        (lambda: blocks_of(torch.zeros(10, dtype=torch.uint8), 3), "10 bytes are no whole number of blocks of 3"),
        (lambda: blocks_of(torch.zeros(10, dtype=torch.uint8), 0), "10 bytes are no whole number of blocks of 0"),
        (lambda: blocks_of(torch.zeros(4, 4).t()[1:], 4), "make the tensor contiguous"),
        (lambda: blocks_of(torch.zeros(4), 4), "page-lock the tensor"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


# --- what is told


@EACH_VALUE
def test_every_copy_is_told_with_all_its_times(device: SimulatedDevice, value: Value) -> None:
    told = Notes()
    with Streams(value, device, COMPUTE, probe=told) as streams:
        handles = [streams.submit(transfer) for transfer in loads(5)]
        handles.append(streams.submit(Transfer(handles[0].transfer.target, Block(5, 1, False))))
        device.run(1000)  # more comes onto streams on which all is over, and nobody has looked
        handles += [streams.submit(Transfer(*ends)) for ends in zip(on_host(5), on_device(5), strict=True)]
        to_the_end(streams, device)
    assert told.said["streams"] == {
        "value": value.name,
        "limit": value.limit,
        "depth": value.depth,
        "ordering": "ordered",
    }
    assert Counter(copy.direction for copy in told.copies) == {HOST_TO_DEVICE: 10, DEVICE_TO_HOST: 1}
    by_submission = {copy.submitted_ns: copy for copy in told.copies}
    for handle in handles:
        copy = by_submission[handle.submitted_ns]
        assert (copy.bytes, copy.stream, copy.device) == (1, handle.stream, 0)
        assert (copy.call_ns, copy.ended_ns) == (handle.call_ns, handle.ended_ns)
        assert copy.call_ns > 0
        assert copy.submitted_ns <= copy.began_ns <= copy.ended_ns
