"""Transfers that fail, leaks and misuse, on a simulated device, where all of that is exact."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch

from tests.simulated_device import COMPUTE, SimulatedDevice
from tests.unit.streamed import (
    EACH_WAY,
    loads,
    submit_behind_compute,
    to_the_end,
)
from workbench.errors import UsageError, WorkbenchError
from workbench.mechanisms.streams.device import DeviceError
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import Bounded, PerTransfer, Single, Value
from workbench.mechanisms.streams.work import Block, Transfer, blocks_of

CALLS = ["make_stream", "make_event", "record", "wait", "copy"]


@EACH_WAY
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("after", [0, 1])
def test_what_was_lent_to_a_transfer_that_fails_comes_back(
    device: SimulatedDevice, value: Value, call: str, after: int
) -> None:
    transfers = loads(2)
    with Streams(value, device, COMPUTE) as streams:
        with streams.compute(reads=[transfers[0].target, transfers[1].target]):
            device.launch_long()
        device.failing[call] = after
        submitted = [streams.submit(transfer) for transfer in transfers]
        errors: list[str] = []
        while not errors and streams.under_way:
            try:
                to_the_end(streams, device)
            except DeviceError as error:
                errors.append(str(error))
        device.failing.clear()
        assert errors == [f"{call} failed"] or (not errors and (after, call) in {(1, "make_stream"), (1, "wait")})
        assert all(each.error is None for each in submitted) == (not errors or call == "make_stream")
        for transfer in transfers:
            streams.wait(streams.submit(Transfer(transfer.source, transfer.target)))


@EACH_WAY
def test_a_thousand_failures_leak_nothing(device: SimulatedDevice, value: Value) -> None:
    [transfer] = loads(1)
    with Streams(value, device, COMPUTE) as streams:
        streams.wait(streams.submit(transfer))
        made = device.made["make_stream"], device.made["make_event"]
        for call in ("record", "copy"):
            for number in range(1000):
                device.failing = {call: number % 2 if call == "record" else 0}
                with pytest.raises(DeviceError, match=f"{call} failed"):
                    streams.wait(streams.submit(transfer))
        assert (device.made["make_stream"], device.made["make_event"]) == made
        device.failing.clear()
        device.memory[transfer.source.address] = "bytes"
        streams.wait(streams.submit(transfer))
    assert device.memory[transfer.target.address] == "bytes"


def test_a_held_transfer_that_fails_says_so_and_stops_no_other(device: SimulatedDevice) -> None:
    transfers = loads(5)
    device.memory |= {transfer.source.address: number for number, transfer in enumerate(transfers)}
    with Streams(PerTransfer(1, has_thread=False), device, COMPUTE) as streams:
        submitted = [streams.submit(transfer) for transfer in transfers]
        device.failing["copy"] = 1  # of those that are held the second
        with pytest.raises(DeviceError, match="copy failed"):
            to_the_end(streams, device)
        device.failing.clear()
        to_the_end(streams, device)
        with pytest.raises(DeviceError, match="copy failed"):
            streams.wait(submitted[2])
    assert [device.memory.get(transfer.target.address) for transfer in transfers] == [0, 1, None, 3, 4]


def test_streams_that_can_not_be_made_hold_nobody_up_forever(device: SimulatedDevice) -> None:
    with Streams(PerTransfer(1, has_thread=False), device, COMPUTE) as streams:
        _, second = (streams.submit(transfer) for transfer in loads(2))
        store = streams.submit(Transfer(second.target, Block(5, 1, False)))
        assert streams.on_device == 1  # the store is behind a load that is held, so it has no stream yet
        device.broken.add("make_stream")
        with pytest.raises(DeviceError, match="make_stream failed"):
            streams.wait(store)
        device.broken.clear()
        streams.wait(store)


def test_what_a_compute_waits_for_and_fails_is_told_before_it_computes(device: SimulatedDevice) -> None:
    transfers = loads(2)
    with Streams(PerTransfer(1, has_thread=False), device, COMPUTE) as streams:
        for transfer in transfers:
            streams.submit(transfer)
        device.failing["copy"] = 0
        computed = []
        with pytest.raises(DeviceError, match="copy failed"), streams.compute(reads=[transfers[1].target]):
            computed.append(1)
    assert not computed


@EACH_WAY
@pytest.mark.parametrize("call", ["query", "synchronise", "elapsed_ms"])
def test_a_device_that_fails_at_the_end_keeps_no_stream(device: SimulatedDevice, value: Value, call: str) -> None:
    streams = Streams(value, device, COMPUTE)
    submitted = [streams.submit(transfer) for transfer in loads(9)]
    device.run(100)
    device.broken.add(call)
    with pytest.raises(DeviceError, match=f"{call} failed"):
        streams.close()
    assert all(each.is_over for each in submitted)
    device.run(1000)
    device.queues = {stream: queue for stream, queue in device.queues.items() if queue or stream == COMPUTE}
    if call == "synchronise":
        device.noticed.clear()  # that nobody waited for its work, which nobody could


@EACH_WAY
def test_what_failed_once_is_told_after_all_is_over(device: SimulatedDevice, value: Value) -> None:
    transfers = loads(3)
    device.memory |= {transfer.source.address: "bytes" for transfer in transfers}
    streams = Streams(value, device, COMPUTE)
    submit_behind_compute(streams, device, transfers[:1])
    while not streams.on_device:
        pass
    device.failing["make_stream"] = 0
    for transfer in transfers[1:]:
        streams.submit(transfer)
    told = nullcontext() if value.limit == 1 else pytest.raises(DeviceError, match="make_stream failed")
    with told:
        streams.close()
    assert all(transfer.is_over and transfer.error is None for transfer in transfers)
    assert all(device.memory.get(transfer.target.address) == "bytes" for transfer in transfers)


@EACH_WAY
def test_an_interrupt_of_the_end_leaves_no_stream_with_work(
    device: SimulatedDevice, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = Streams(value, device, COMPUTE)
    transfers = submit_behind_compute(streams, device, loads(9))

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(streams._native, "advance", interrupt)
    with pytest.raises(KeyboardInterrupt):
        streams.close()
    assert all(transfer.is_over for transfer in transfers)


@pytest.mark.parametrize(
    ("call", "after"), [("make_stream", 0), *((call, after) for call in ("make_event", "record") for after in (0, 2))]
)
def test_streams_that_can_not_be_opened_leave_nothing(device: SimulatedDevice, call: str, after: int) -> None:
    device.failing[call] = after
    with pytest.raises(DeviceError, match=f"{call} failed"):
        Streams(PerTransfer(), device, COMPUTE)


@EACH_WAY
def test_a_thousand_rounds_need_what_the_first_needed(device: SimulatedDevice, value: Value) -> None:
    transfers = loads(6)
    made = set()
    with Streams(value, device, COMPUTE) as streams:
        for _ in range(1000):
            submit_behind_compute(streams, device, transfers)
            to_the_end(streams, device)
            made.add((len(device.queues), len(device.events)))
    assert len(made) == 1


@EACH_WAY
def test_a_thousand_streams_are_opened_and_closed(device: SimulatedDevice, value: Value) -> None:
    transfers = loads(4)
    for _ in range(1000):
        with Streams(value, device, COMPUTE) as streams:
            for transfer in transfers:
                streams.submit(transfer)
    assert set(device.queues) == {COMPUTE}


def test_the_last_transfers_are_waited_for(device: SimulatedDevice) -> None:
    with Streams(Bounded(limit=1, depth=1), device, COMPUTE) as streams:
        submitted = [streams.submit(transfer) for transfer in loads(5)]
    assert all(each.is_over and each.error is None for each in submitted)


USES: dict[str, Callable[[Streams], object]] = {
    "submit": lambda streams: streams.submit(loads(1)[0]),
    "poll": lambda streams: streams.poll(),
    "prepare": lambda streams: streams.prepare(1),
    "compute": lambda streams: streams.compute().__enter__(),
    "wait": lambda streams: streams.wait(loads(1)[0]),
}


@pytest.mark.parametrize("use", USES)
def test_closed_streams_say_so(device: SimulatedDevice, use: str) -> None:
    streams = Streams(Single(), device, COMPUTE)
    streams.close()
    streams.close()
    with pytest.raises(WorkbenchError, match=r"^these streams are closed: make new ones$"):
        USES[use](streams)


@EACH_WAY
def test_a_transfer_within_a_block_of_compute_is_refused(device: SimulatedDevice, value: Value) -> None:
    first, second = loads(2)
    with Streams(value, device, COMPUTE) as streams:
        streams.wait(streams.submit(first))  # what is submitted next is not looked at closely any more
        with (
            pytest.raises(
                WorkbenchError, match=r"^a transfer has no order with the compute around it: submit it after"
            ),
            streams.compute(reads=[second.target]),
        ):
            streams.submit(second)
        assert not second.is_under_way
        streams.submit(second)
        to_the_end(streams, device)
        assert second.is_over


def test_a_fork_notices_that_the_streams_are_its_parents(device: SimulatedDevice) -> None:
    streams = Streams(PerTransfer(has_thread=False), device, COMPUTE)
    submitted = streams.submit(loads(1)[0])
    steps, queues = device.steps, len(device.queues)
    child = os.fork()
    if not child:
        messages = set()
        for use in USES.values():
            try:
                use(streams)
            except WorkbenchError as error:
                messages.add(str(error))
        streams.close()
        untouched = (device.steps, len(device.queues)) == (steps, queues)
        said = f"these streams are process {os.getppid()}'s, and this is its fork: CUDA needs a `spawn`"
        os._exit(0 if untouched and messages == {said} else 1)
    assert os.waitpid(child, 0)[1] == 0
    streams.wait(submitted)
    streams.close()


def test_a_transfer_that_is_under_way_is_not_submitted_again(device: SimulatedDevice) -> None:
    [load] = loads(1)
    with Streams(Single(), device, COMPUTE) as streams, Streams(Single(), device, COMPUTE) as others:
        streams.submit(load)
        for each in (streams, others):
            with pytest.raises(WorkbenchError, match=r"^this transfer is under way: wait for it, or make another one"):
                each.submit(load)
        with pytest.raises(WorkbenchError, match=r"^this transfer was submitted to other streams: wait for it there$"):
            others.wait(load)
        assert (streams.under_way, others.under_way) == (1, 0)
        streams.wait(load)
        others.wait(others.submit(load))
        assert load.is_over


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transfer(Block(0, 2, True), Block(0, 3, False)), "a block of 2 bytes does not fit into one of 3"),
        (lambda: Block(-1, 4, True), "a block's address must be a whole number from 0 to 2^63, not -1"),
        (lambda: Block(1 << 63, 4, True), f"from 0 to 2^63, not {1 << 63}"),
        (lambda: Block(0, -1, True), "a block's size must be a whole number from 0 to 2^62, not -1"),
        (lambda: Block(0, 1 << 62, True), f"from 0 to 2^62, not {1 << 62}"),
        (lambda: Block(0, 2.5, True), "not 2.5"),  # type: ignore[arg-type]
        (lambda: PerTransfer(2.5), "limit must be a whole number, not 2.5"),  # type: ignore[arg-type]
        (lambda: Bounded("3"), "limit must be a whole number, not '3'"),  # type: ignore[arg-type]
        (lambda: Bounded(3, 1.5), "depth must be a whole number, not 1.5"),  # type: ignore[arg-type]
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


def test_compute_inside_of_compute_is_refused_and_the_outer_block_keeps_its_order(device: SimulatedDevice) -> None:
    [transfer] = loads(1)
    with Streams(PerTransfer(3, has_thread=False), device, COMPUTE) as streams:
        with streams.compute(writes=[transfer.target]):
            with pytest.raises(WorkbenchError, match="compute inside of compute"), streams.compute():
                pass
            with pytest.raises(WorkbenchError, match="no order with the compute around it"):
                streams.submit(transfer)
        streams.wait(streams.submit(transfer))


def test_what_can_not_be_waited_for_or_prepared_is_refused(device: SimulatedDevice) -> None:
    [transfer] = loads(1)
    with Streams(Single(), device, COMPUTE) as streams:
        with pytest.raises(WorkbenchError, match="never submitted"):
            streams.wait(transfer)
        with pytest.raises(UsageError, match="-1 transfers"):
            streams.prepare(-1)


@EACH_WAY
def test_streams_that_nobody_closed_give_all_back(device: SimulatedDevice, value: Value) -> None:
    streams = Streams(value, device, COMPUTE)
    streams.wait(streams.submit(loads(1)[0]))
    with pytest.warns(ResourceWarning, match="were not closed"):
        del streams
    assert device.made["make_stream"] == device.made["destroy_stream"]
    assert device.made["make_event"] == device.made["destroy_event"]


def test_streams_that_could_not_be_made_end_in_silence(
    device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr("workbench.mechanisms.streams.transfers.Transfers", _not_built)
    with pytest.raises(WorkbenchError, match="not built"):
        Streams(Single(), device, COMPUTE)
    assert not recwarn.list


def _not_built(*_: object) -> None:
    raise WorkbenchError("not built")
