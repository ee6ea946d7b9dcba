"""What `Streams.submit` takes of who calls it, and how much of that is the driver's: for submitting.py."""

from __future__ import annotations

import gc
import os
import resource
import sys
import tempfile
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from submitting import AS_IS, CALLS, PLAIN, REPEATS, Ints, about, line  # type: ignore[import-not-found]

from workbench.launch.programs import record_program
from workbench.mechanisms.streams.cuda_device import CudaDevice
from workbench.mechanisms.streams.pools import Lane
from workbench.mechanisms.streams.transfers import Streams
from workbench.mechanisms.streams.values import Bounded, PerTransfer
from workbench.mechanisms.streams.work import Handle, Transfer
from workbench.recorder.recorder import Recorder, current
from workbench.run.store import Store
from workbench.studies.kv_streams_program import Load, Memory, _on_device

SIZE = 4096
IN_FLIGHT = (1, 100, 1000, 10_000, 100_000)
FASTER = 3  # the step that all are submitted behind lasts a third of the study's,
SHORTER = 20  # and where one is in flight a 20th
MOST_ROUNDS = 1000


class WithoutBegin(Streams):
    """No event before a transfer: it begins when what it waits for is over."""

    def _enqueue(self, handle: Handle, lane: Lane) -> None:
        source, target, way = handle.transfer.source, handle.transfer.target, handle.direction
        waits = []
        for work in handle.waits:
            if lane.must_wait(work):
                waits.append(work.end)
        handle.end = self._events.take()
        with self._telling:
            handle.submitted_ns, handle.call_ns = self._device.hand_on(
                lane.stream, waits, 0, target.address, source.address, source.bytes, way, handle.end
            )


WAYS: dict[str, type[Streams]] = {AS_IS.name: Streams, "no begin": WithoutBegin}


@dataclass
class Found:
    """What the calls of some rounds took, in ns, and what came between."""

    calls: list[array[int]] = field(default_factory=list)
    in_driver: list[array[int]] = field(default_factory=list)
    began: list[Ints] = field(default_factory=list)  # after the first of their round did
    lasted: list[Ints] = field(default_factory=list)  # on the device
    collections: int = 0
    faults: int = 0
    switches: int = 0


class Rounds:
    """So many transfers in flight, again and again, with what the study does between or with nothing."""

    def __init__(self, in_flight: int) -> None:
        self.memory, self._load = Memory(in_flight, SIZE), Load(in_flight // FASTER)
        if in_flight == 1:
            self._load._cycles //= SHORTER
        self.transfers: list[Transfer] = self.memory.transfers
        self._loaded, self._stored = (_on_device(self.transfers, rest) for rest in (0, 1))

    def round(self, streams: Streams, found: Found, is_study: bool) -> None:
        import torch

        if is_study:
            self.memory.fill()
        torch.cuda.synchronize()
        self._load.begin()
        with streams.compute(reads=self._loaded, writes=self._stored):
            if is_study:
                self.memory.change()
        handles = self._submit(streams, found)
        while streams.poll():
            pass
        began, ended = np.array([(handle.began_ns, handle.ended_ns) for handle in handles], np.int64).T
        found.began.append(began - began.min())
        found.lasted.append(ended - began)

    def _submit(self, streams: Streams, found: Found) -> list[Handle]:
        now, submit = time.perf_counter_ns, streams.submit
        calls, in_driver, handles = array("q"), array("q"), []
        before, collected = resource.getrusage(resource.RUSAGE_THREAD), _collections()
        for transfer in self.transfers:
            start = now()
            handle = submit(transfer)
            calls.append(now() - start)
            in_driver.append(handle.call_ns)
            handles.append(handle)
        after = resource.getrusage(resource.RUSAGE_THREAD)
        found.collections += _collections() - collected
        found.faults += after.ru_minflt - before.ru_minflt
        found.switches += after.ru_nivcsw - before.ru_nivcsw
        found.calls.append(calls)
        found.in_driver.append(in_driver)
        return handles


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def measure() -> None:
    """Print what a call takes."""
    import torch

    torch.cuda.init()  # type: ignore[no-untyped-call]
    probe = current()
    is_recorded = isinstance(probe, Recorder)
    print(f"\nstreams, {'' if is_recorded else 'not '}recorded, {about()}")
    print(f"{'us':57} p50     p90   p99 of each repeat        max | p50 and p99 of the driver, and of Python")
    for in_flight in IN_FLIGHT if os.environ.get(PLAIN) else IN_FLIGHT[:-1]:
        rounds = Rounds(in_flight)
        for value in (PerTransfer(), Bounded()):
            device = CudaDevice()
            stream = torch.cuda.current_stream(device.number).cuda_stream
            ways = {name: way(value, device, stream, probe=probe) for name, way in WAYS.items()}
            for streams in ways.values():
                streams.prepare((in_flight + 1) // 2)
            gc.collect()
            gc.freeze()
            _rows_of(rounds, ways, f"{in_flight:6} in flight, {value.name:12}")
            for streams in ways.values():
                streams.close()
            device.close()
            gc.unfreeze()


def _rows_of(rounds: Rounds, ways: dict[str, Streams], name: str) -> None:
    in_flight = len(rounds.transfers)
    repeats, studies = (REPEATS, (False, True)) if in_flight <= 10_000 else (1, (True,))
    times = min(-(-CALLS // in_flight), MOST_ROUNDS)
    found: dict[tuple[str, bool], list[Found]] = {}
    for streams in ways.values():
        rounds.round(streams, Found(), True)
    for _ in range(repeats):
        for way, streams in ways.items():
            for is_study in studies:
                one = Found()
                for _ in range(times):
                    rounds.round(streams, one, is_study)
                found.setdefault((way, is_study), []).append(one)
    for (way, is_study), each in found.items():
        _print(f"{name}, {'study' if is_study else 'loop '}, {way}", each)


def _print(name: str, repeats: Sequence[Found]) -> None:
    calls = [np.concatenate([np.array(one) for one in each.calls]) for each in repeats]
    every = np.concatenate(calls)
    in_driver = np.concatenate([np.array(one) for each in repeats for one in each.in_driver])
    went_on = in_driver > 0  # at once: the others were held first, and their driver's part came in a poll
    shares = [_two(in_driver[went_on]), _two((every - in_driver)[in_driver <= every])]
    counts = ((sum(getattr(each, what) for each in repeats), what) for what in ("collections", "faults", "switches"))
    said = ", ".join(f"{count} {what}" for count, what in counts if count)
    began, lasted = (
        _two(np.concatenate([one for each in repeats for one in getattr(each, what)])) for what in ("began", "lasted")
    )
    print(f"{line(name, calls)} | {' | '.join(shares)} | {said} | began after {began}, lasted {lasted}")


def _two(values: Ints) -> str:
    if not len(values):
        return "none"
    return " ".join(f"{np.quantile(values, part) / 1000:.2f}" for part in (0.5, 0.99))


def recorded(command: Sequence[str]) -> int:
    """The same recorded, into a folder that is removed."""
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        run = record_program(command, name="submitting", store=Store(Path(folder)))
        return run.manifest.exit_code or 0
