"""A program that has many transfers in flight at once: what submitting them costs, and what compute loses beside them.

`python -m workbench.studies.kv_streams_program VALUE IN_FLIGHT BYTES [unordered] [no-thread]` prints one JSON object,
and the run that records it keeps the same. Half of the transfers are loads and half are stores, each of a block of its
own in memory page-locked by torch; all are submitted behind one long step of compute, as by an engine that is ahead.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UsageError, WorkbenchError, nearest
from workbench.mechanisms.streams.cuda_device import cuda_streams, current_device
from workbench.mechanisms.streams.transfers import ORDERED, UNORDERED, Streams
from workbench.mechanisms.streams.values import VALUES
from workbench.mechanisms.streams.work import Block, Transfer, blocks_of
from workbench.recorder.recorder import current
from workbench.studies.kv_streams import IDLE_NS, NO_THREAD, NOTE

if TYPE_CHECKING:
    import torch

    from workbench.mechanisms.streams.values import Value

OPTIONS = (UNORDERED, NO_THREAD)
MOST_BYTES = 512 << 20  # of all blocks, on the device and again on the host
LONG_S, LONG_S_A_TRANSFER = 0.001, 20e-6  # the step that all are submitted behind lasts longer than submitting does
ALONE = 3  # times
STEPS = 50  # of compute after that, with which the copies have nothing to do
BLOCKED_NS = 10_000_000  # a call that keeps the driver as long has waited for room
CALLS = 3000  # so many are measured at least, each behind a step of compute


class Memory:
    """Blocks on the device and on the host: the even ones are loaded, the odd ones stored."""

    def __init__(self, blocks: int, size: int) -> None:
        import torch

        tag = current().tag
        with tag("kv_cache"):
            self.cache = torch.zeros(blocks, size // 4, dtype=torch.int32, device="cuda")
        with tag("staging"):
            self.host = torch.zeros(blocks, size // 4, dtype=torch.int32, pin_memory=True)
        self._numbers = torch.arange(1, blocks + 1, dtype=torch.int32)
        ends = list(zip(blocks_of(self.host, size), blocks_of(self.cache, size), strict=True))
        self.transfers = [
            Transfer(cache, host) if number % 2 else Transfer(host, cache) for number, (host, cache) in enumerate(ends)
        ]

    def fill(self) -> None:
        """Give every block a value that it has nowhere else."""
        self.host[:, 0] = self._numbers
        self.cache[:, 0] = (-self._numbers).cuda()

    def change(self) -> torch.Tensor:
        """Compute: change what is stored, and return what was in the blocks that are loaded."""
        self.cache[1::2, 0] *= 2
        return self.cache[0::2, 0].clone()

    def corrupted(self, seen: torch.Tensor) -> int:
        """Blocks that are not what they must be after compute, loads and stores in their order."""
        even, odd = self._numbers[0::2], self._numbers[1::2]
        pairs = ((self.cache[0::2, 0].cpu(), even), (self.host[1::2, 0], -2 * odd), (seen.cpu(), -even))
        return sum(int((found != expected).sum()) for found, expected in pairs)


class Load:
    """The compute: one long step, and then steps as of a model."""

    def __init__(self, in_flight: int) -> None:
        import torch

        self._matrix = torch.randn(2048, 2048, dtype=torch.bfloat16, device="cuda")
        self._begin, self._end = _events()
        for _ in range(4):
            self.go_on()  # until the clocks are up
        self._cycles = int((LONG_S + in_flight * LONG_S_A_TRANSFER) * _cycles_a_second())

    def begin(self) -> None:
        """Launch the long step."""
        import torch

        self._begin.record()
        torch.cuda._sleep(self._cycles)  # type: ignore[no-untyped-call]

    def go_on(self) -> None:
        """Launch the others."""
        for _ in range(STEPS):
            self._matrix @ self._matrix
        self._end.record()

    def seconds(self) -> float:
        """From the beginning to the end, on the device."""
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end)) / 1000


@dataclass(frozen=True)
class Asked:
    """What is measured."""

    value: str
    in_flight: int
    bytes: int
    options: frozenset[str] = frozenset()

    @property
    def streams(self) -> Value:
        """The value of streams, with all that is said of it."""
        value = VALUES[self.value]()
        return replace(value, has_thread=False) if NO_THREAD in self.options else value


def measured(asked: Asked) -> dict[str, Any]:
    """Gives what a round finds, in seconds and bytes."""
    current_device()
    probe = current()
    in_flight, value, is_ordered = asked.in_flight, asked.streams, UNORDERED not in asked.options
    load = Load(in_flight)
    Memory(2, asked.bytes).change()  # what the GPU's libraries take at their first use is not the transfers'
    before = _private_bytes()
    with probe.phase("blocks"):
        memory = Memory(in_flight, asked.bytes)
    with cuda_streams(value, is_ordered=is_ordered, probe=probe) as streams:
        with probe.phase("streams"):
            streams.prepare((in_flight + 1) // 2)
        gc.collect()
        gc.freeze()  # as engines do, so that no call waits for a search of what stays
        with probe.phase("first use"):
            _rounds(streams, memory, load, 1)  # not counted: streams come to life at their first use
        with probe.phase("alone"):
            alone_s = median(_compute_alone(memory, load) for _ in range(ALONE))
        with probe.phase("transfers"):
            rounds = _rounds(streams, memory, load, rounds_of(in_flight))
        private_bytes = _private_bytes() - before
    found: dict[str, Any] = {
        "value": value.name,
        "has_thread": value.has_thread,
        "in_flight": in_flight,
        "bytes": asked.bytes,
        "ordering": ORDERED if is_ordered else UNORDERED,
        "rounds": len(rounds.calls),
    }
    found |= rounds.told()
    found["delay_s"] = found["compute_s"] - alone_s
    return found | {"private_bytes": private_bytes, "pinned_bytes": _pinned_bytes()}


def rounds_of(in_flight: int) -> int:
    """Gives how many rounds are measured."""
    return -(-CALLS // in_flight)


def _compute_alone(memory: Memory, load: Load) -> float:
    load.begin()
    memory.change()
    load.go_on()
    return load.seconds()


class Found:
    """What rounds find, in memory that is there beforehand: for what grows, a call now and then waits for a page."""

    def __init__(self, rounds: int, in_flight: int) -> None:
        self.calls = np.full((rounds, in_flight), 0)  # ns of each
        self.in_driver = np.full((rounds, in_flight), 0)  # ns that the driver took for each, whoever handed it on
        self.idle = np.full((rounds, min(in_flight, CALLS)), 0)  # ns of each window of IDLE_NS, right after the calls
        self.submit_s = np.full(rounds, 0.0)  # all of them
        self.total_s = np.full(rounds, 0.0)  # until all are over, the long step included
        self.compute_s = np.full(rounds, 0.0)
        self.corrupted = np.full(rounds, 0)  # blocks

    def told(self) -> dict[str, Any]:
        """What the calls took, and those right after compute; the first of a round that waited for room, from 1."""
        waited = (self.in_driver >= BLOCKED_NS).any(axis=0)
        times = {
            "p50_s": _quantile(self.calls, 50) / 1e9,
            "p99_s": _quantile(self.calls, 99) / 1e9,
            "max_s": self.calls.max() / 1e9,
            "first_s": np.median(self.calls[:, 0]) / 1e9,
            "driver_p99_s": _quantile(self.in_driver, 99) / 1e9,
            "idle_p99_s": _quantile(self.idle, 99) / 1e9,
        }
        times |= {name: np.median(getattr(self, name)) for name in ("submit_s", "total_s", "compute_s")}
        found: dict[str, Any] = {name: float(seconds) for name, seconds in times.items()}
        first_blocked = int(waited.argmax()) + 1 if waited.any() else None
        return found | {"first_blocked": first_blocked, "corrupted": int(self.corrupted.sum())}


def _rounds(streams: Streams, memory: Memory, load: Load, count: int) -> Found:
    found = Found(count, len(memory.transfers))
    for number in range(count):
        _round(streams, memory, load, found, number)
    return found


def _round(streams: Streams, memory: Memory, load: Load, found: Found, number: int) -> None:
    import torch

    memory.fill()
    torch.cuda.synchronize()
    loaded, stored = _on_device(memory.transfers, 0), _on_device(memory.transfers, 1)
    start = time.perf_counter()
    load.begin()
    with streams.compute(reads=loaded, writes=stored):
        seen = memory.change()
    submitting = time.perf_counter()
    _submit(streams, memory.transfers, memoryview(found.calls[number]))
    found.submit_s[number] = time.perf_counter() - submitting
    _do_nothing(memoryview(found.idle[number]))
    load.go_on()
    while streams.poll():
        pass
    found.total_s[number] = time.perf_counter() - start
    found.compute_s[number] = load.seconds()
    found.corrupted[number] = memory.corrupted(seen)
    for index, each in enumerate(memory.transfers):
        found.in_driver[number, index] = each.result.call_ns if each.result else 0


def _submit(streams: Streams, transfers: list[Transfer], calls: memoryview) -> None:
    now, submit = time.perf_counter_ns, streams.submit
    for number, transfer in enumerate(transfers):
        before = now()
        submit(transfer)
        calls[number] = now() - before


def _do_nothing(windows: memoryview) -> None:
    now = time.perf_counter_ns
    for number in range(len(windows)):
        before = now()
        while (passed := now() - before) < IDLE_NS:
            pass
        windows[number] = passed


def _on_device(transfers: list[Transfer], rest: int) -> list[Block]:
    return [each.target if each.target.on_device else each.source for each in transfers[rest::2]]


def _quantile(times: np.ndarray[Any, np.dtype[np.int64]], percent: int) -> int:
    return int(np.quantile(times, percent / 100, method="inverted_cdf"))


def _cycles_a_second() -> float:
    """How many cycles torch's sleeping kernel sleeps a second."""
    import torch

    begin, end = _events()
    for cycles in (1_000_000, 50_000_000):  # the first one loads the kernel
        begin.record()
        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]
        end.record()
        end.synchronize()
    return cycles / (float(begin.elapsed_time(end)) / 1000)


def _events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    return begin, end


def _private_bytes() -> int:
    """What this process alone holds of the host's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def _pinned_bytes() -> int:
    """What torch has page-locked."""
    import torch

    return int(torch.cuda.host_memory_stats().get("allocated_bytes.current", 0))


def read(arguments: list[str]) -> Asked:
    """Gives what the command line asks for; refuses what can not be measured."""
    try:
        value, in_flight, size = arguments[0], int(arguments[1]), int(arguments[2])
    except (IndexError, ValueError):
        raise UsageError("give a value of streams, how many transfers, and bytes: bounded 1000 4096") from None
    for what, known in ((value, VALUES), *((option, OPTIONS) for option in arguments[3:])):
        if what not in known:
            raise UsageError(f"streams can not be {what!r}: {nearest(what, known)}")
    if in_flight < 1 or size < 4 or size % 4:
        raise UsageError(f"{in_flight} transfers of {size} bytes can not be: give 1 or more, of 4 bytes or a multiple")
    if in_flight * size > MOST_BYTES:
        raise UsageError(f"{in_flight} transfers of {size} bytes need {in_flight * size} bytes; at most {MOST_BYTES}")
    return Asked(value, in_flight, size, frozenset(arguments[3:]))


def main(arguments: list[str]) -> int:
    """Measure what the command line says."""
    try:
        found = measured(read(arguments))
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return error.exit_code
    current().facts(NOTE, found)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
