"""No schedule of loads, stores and compute, and no order in which the device takes them, corrupts a byte."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulated_device import COMPUTE, SimulatedDevice, Whims
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import Bounded, PerTransfer, Single, Value
from workbench.mechanisms.streams.work import Block, Transfer

CACHE = range(0x7000, 0x7003)  # addresses of blocks on the device
HOST = range(0x1000, 0x1004)


@dataclass(frozen=True)
class Load:
    source: int
    target: int


@dataclass(frozen=True)
class Store:
    source: int
    target: int


@dataclass(frozen=True)
class Compute:
    reads: frozenset[int]
    writes: frozenset[int]
    number: int


@dataclass(frozen=True)
class Run:
    steps: int


@dataclass(frozen=True)
class Poll:
    pass


Action = Load | Store | Compute | Run | Poll

some_of_the_cache = st.frozensets(st.sampled_from(CACHE))
transfers = st.one_of(
    st.builds(Load, st.sampled_from(HOST), st.sampled_from(CACHE)),
    st.builds(Store, st.sampled_from(CACHE), st.sampled_from(HOST)),
)
actions = st.one_of(
    transfers,
    transfers,
    st.builds(Compute, some_of_the_cache, some_of_the_cache, st.integers(0, 1000)),
    st.builds(Run, st.integers(1, 20)),
    st.builds(Poll),
)
values = st.one_of(
    st.builds(Single, st.booleans()),
    st.builds(PerTransfer, st.integers(1, 4), st.booleans()),
    st.builds(Bounded, st.integers(1, 3), st.integers(1, 4), st.booleans()),
)


@dataclass
class Machine:
    """A schedule, done at once in its order as it should be, and by streams on a device that takes any order."""

    streams: Streams
    device: SimulatedDevice
    expected: dict[int, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.expected |= {address: ("before", address) for address in (*CACHE, *HOST)}
        self.device.memory |= self.expected
        self.blocks = {address: Block(address, 1, address in CACHE) for address in (*CACHE, *HOST)}

    def do(self, action: Action) -> None:
        match action:
            case Load(source, target) | Store(source, target):
                self.expected[target] = self.expected[source]
                self.streams.submit(Transfer(self.blocks[source], self.blocks[target]))
            case Compute():
                self.compute(action)
            case Run(steps):
                self.device.run(steps)
            case Poll():
                self.streams.poll()

    def compute(self, step: Compute) -> None:
        """Reads some blocks, one by one, and then writes what it made of them."""
        memory, seen = self.device.memory, {}
        result = step.number, {address: self.expected[address] for address in step.reads}
        self.expected |= dict.fromkeys(step.writes, result)
        reads = [lambda at=at: seen.update({at: memory[at]}) for at in sorted(step.reads)]
        writes = [lambda at=at: memory.update({at: (step.number, seen)}) for at in sorted(step.writes)]
        with self.streams.compute([self.blocks[at] for at in step.reads], [self.blocks[at] for at in step.writes]):
            if step.reads or step.writes:
                self.device.launch(*reads, *writes)


def is_right(schedule: list[Action], value: Value, is_ordered: bool, room: int, seed: int) -> bool:
    """Whether all bytes are what they would be without streams."""
    device = SimulatedDevice(room, Whims(seed))
    with Streams(value, device, COMPUTE, is_ordered=is_ordered) as streams:
        machine = Machine(streams, device)
        for action in schedule:
            machine.do(action)
    device.synchronise()
    assert set(device.queues) == {COMPUTE}
    assert not device.events
    return device.memory == machine.expected


@settings(max_examples=1500, deadline=None)
@given(st.lists(actions, max_size=40), values, st.integers(3, 40), st.integers(0, 1 << 30))
def test_no_schedule_corrupts_a_byte(schedule: list[Action], value: Value, room: int, seed: int) -> None:
    assert is_right(schedule, value, True, room, seed)


CACHE_BLOCK, HOST_BLOCK, OTHER_BLOCK = CACHE[0], HOST[0], HOST[1]
HAZARDS: dict[str, list[Action]] = {
    "a store waits for the compute that writes its source": [
        Compute(frozenset(), frozenset({CACHE_BLOCK}), 1),
        Store(CACHE_BLOCK, HOST_BLOCK),
    ],
    "a load waits for the compute that still reads its target": [
        Compute(frozenset({CACHE_BLOCK}), frozenset({CACHE[1]}), 1),
        Load(HOST_BLOCK, CACHE_BLOCK),
    ],
    "compute waits for the load of what it reads": [
        Load(HOST_BLOCK, CACHE_BLOCK),
        Compute(frozenset({CACHE_BLOCK}), frozenset({CACHE[1]}), 1),
    ],
    "compute waits for the store of what it overwrites": [
        Store(CACHE_BLOCK, HOST_BLOCK),
        Compute(frozenset(), frozenset({CACHE_BLOCK}), 1),
    ],
    "a load waits for the store of its source": [Store(CACHE_BLOCK, HOST_BLOCK), Load(HOST_BLOCK, CACHE[1])],
    "a store waits for the load of its source": [Load(HOST_BLOCK, CACHE_BLOCK), Store(CACHE_BLOCK, OTHER_BLOCK)],
    "a load waits for all stores of its target": [
        Store(CACHE_BLOCK, HOST_BLOCK),
        Store(CACHE_BLOCK, HOST[2]),
        Load(OTHER_BLOCK, CACHE_BLOCK),
    ],
    "a load waits for the store of its target": [Store(CACHE_BLOCK, HOST_BLOCK), Load(OTHER_BLOCK, CACHE_BLOCK)],
}


def corrupting_seeds(schedule: list[Action], value: Value, is_ordered: bool) -> int:
    return sum(not is_right(schedule, value, is_ordered, 1024, seed) for seed in range(40))


@pytest.mark.parametrize("has_thread", [False, True], ids=["by who submits", "by a thread"])
def test_every_rule_is_needed_and_kept(has_thread: bool) -> None:
    value = PerTransfer(has_thread=has_thread)
    for rule, schedule in HAZARDS.items():
        assert corrupting_seeds(schedule, value, False), f"without order it would show: {rule}"
        assert not corrupting_seeds(schedule, value, True), rule
