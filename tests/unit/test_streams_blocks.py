"""Blocks: none may overlap another one that has work under way, and what is over is forgotten."""

from __future__ import annotations

import os
import random
from contextlib import suppress

import pytest

from tests.simulated_device import COMPUTE, SimulatedDevice
from workbench.errors import UsageError
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import PerTransfer, Single
from workbench.mechanisms.streams.work import Block, Transfer
from workbench.recorder.residency import private_bytes

OVERLAPS = "^a block overlaps others with work that is not over: cut memory into the same blocks for compute and"


def test_blocks_that_overlap_are_refused_until_all_is_over(device: SimulatedDevice) -> None:
    whole, piece, host = Block(0x7000, 4, True), Block(0x7002, 1, True), Block(0x1000, 1, False)
    first = Block(0x7000, 1, True)
    with Streams(Single(), device, COMPUTE) as streams:
        with streams.compute(writes=[whole]):
            device.launch_long()
        for each in (piece, first):
            store = streams.submit(Transfer(each, host))
            with pytest.raises(UsageError, match=OVERLAPS):
                streams.wait(store)
        with pytest.raises(UsageError, match=OVERLAPS), streams.compute(reads=[piece]):
            pytest.fail("it was let in")
        device.synchronise()
        streams.wait(streams.submit(Transfer(piece, host)))
        with pytest.raises(UsageError, match=OVERLAPS), streams.compute(reads=[whole], writes=[first]):
            pytest.fail("it was let in")


def test_every_overlap_is_seen_and_nothing_else(device: SimulatedDevice) -> None:
    chance = random.Random(7)
    loads, known, overlap = [], set[tuple[int, int]](), []
    device.room = 1 << 20
    with Streams(Single(), device, COMPUTE) as streams:
        for number in range(2000):
            size = chance.choice([1, 2, 4, 8])
            address = 0x7000_0000 + size * chance.randrange(6000 // size)
            others = known - {(address, size)}
            overlap.append(any(at < address + size and address < at + some for at, some in others))
            if not overlap[-1]:
                known.add((address, size))
            host = Block(0x1000 + 16 * number, size, on_device=False)
            loads.append(streams.submit(Transfer(host, Block(address, size, on_device=True))))
        with suppress(UsageError):
            streams.close()
    assert [each.error is not None for each in loads] == overlap
    assert 100 < sum(overlap) < 1900


def test_blocks_that_are_never_used_again_take_no_memory(device: SimulatedDevice) -> None:
    held = []
    with Streams(PerTransfer(8, has_thread=False), device, COMPUTE) as streams:
        for number in range(120_001):
            ends = Block(0x1000 + 2 * number, 1, on_device=False), Block(0x7000_0000 + 2 * number, 1, on_device=True)
            streams.submit(Transfer(*ends))
            device.run(20)
            streams.poll()
            if number % 40_000 == 0:
                device.memory.clear()
                held.append(private_bytes(os.getpid()))
    assert held[-1] - held[0] < 12 << 20  # each block that is remembered takes some 100 bytes
