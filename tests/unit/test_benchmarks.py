"""The benchmarks' own frame: which are of a host, what is kept when one fails, and what their rows say."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import gpu_hooks, gpu_overhead, host_alloc, streams
from tests.benchmarks.rows import Row
from workbench.studies.pinned_memory import SIZES


@pytest.mark.parametrize("name", benchmarks.BENCHMARKS)
def test_each_benchmark_measures(name: str) -> None:
    assert callable(import_module(f"tests.benchmarks.{name}").measure)


def test_a_host_has_its_own() -> None:
    of_host = {
        cuda: {name for name, one in benchmarks.BENCHMARKS.items() if one.is_for(cuda)} for cuda in (True, False)
    }
    assert {"gpu_overhead", "gpu_hooks", "host_alloc", "streams"} == of_host[True] - of_host[False]
    assert {"engines", "memory"} <= of_host[True] & of_host[False]


def test_one_that_fails_takes_nothing_of_the_others_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(folder: Path, quick: bool) -> list[Row]:
        raise SystemExit("no such program")

    modules = {
        "tests.benchmarks.hooks": SimpleNamespace(measure=fails),
        "tests.benchmarks.memory": SimpleNamespace(measure=lambda *_: [Row("peak", 3.0, "MiB", 4.0, "", "vllm", 6.0)]),
    }
    monkeypatch.setattr(benchmarks, "import_module", modules.__getitem__)
    rows, failed = benchmarks.run(["hooks", "memory"], tmp_path, False, tmp_path)
    assert (rows[0].held, rows[0].ratio, failed) == (True, 0.5, ["hooks"])
    assert "no such program" in capsys.readouterr().err
    [path] = tmp_path.iterdir()
    assert list(json.loads(path.read_text())["benchmarks"]) == ["memory"]
    benchmarks.run(["memory"], tmp_path, True, tmp_path / "quick")
    assert not (tmp_path / "quick").exists()


def test_gpu_events_are_told_beside_the_call_and_blocks_beside_torchs_history(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(command: list[str]) -> dict[str, dict[str, int]]:
        if "--history" in command or "record" not in command:
            ns = 3000 if "--history" in command else 1000
            return {name: {"plain": ns} for name in ("block_ns", "segment_ns", "raw_ns")}
        return {name: {"on": 1700, "off": 1100, "more": 600} for name in ("block_ns", "segment_ns", "raw_ns")}

    monkeypatch.setattr(gpu_hooks, "found", found)
    block, segment, event, *_ = gpu_hooks.measure(Path(), False)
    assert (block.measured, block.anchor, block.anchor_measured) == (600, "torch's history", 2000)
    assert segment.what == "a segment of torch's from the driver and its free, recorded"
    assert (event.measured, event.anchor_measured, event.held) == (300, 550, True)


def test_arms_of_host_memory_are_held_to_the_pool_and_to_the_fastest() -> None:
    def round_of(taken: int, allocate: float) -> list[dict[str, float]]:
        return [{"taken": size + taken, "allocate_s": allocate, "free_s": 0.1} for size in SIZES]

    runs = {"pinned-pool": [round_of(1 << 20, 0.2)], "host-alloc": [round_of(4096, 0.1)]}
    beyond, allocate, _ = host_alloc._memory(runs, "host-alloc", 0)
    assert (beyond.held, allocate.held, allocate.anchor, allocate.ratio) == (True, True, "pinned-pool", 0.5)
    assert [row.held for row in host_alloc._memory(runs, "pinned-pool", 0)] == [None] * 3
    copies = {
        "pinned-pool": {"to_device_per_s": [49e9, 50e9, 51e9], "to_host_per_s": [1.0]},
        "host-alloc": {"to_device_per_s": [48e9, 48e9, 52e9], "to_host_per_s": [1.0]},
    }
    to_device, to_host = host_alloc._copies(copies, "host-alloc", 1 << 20)
    assert (to_device.held, to_host.held) == (False, True)
    assert to_device.ratio == pytest.approx(50 / 48)
    assert [row.held for row in host_alloc._copies(copies, "pinned-pool", 1 << 20)] == [None] * 2
    assert host_alloc._copies(copies, "pinned-pool-exact", 1 << 20) == []  # it is for a whole process


class Vllm:
    """Says the same always: recorded steps take 2 % longer than others, and rounds 4 %."""

    def ask(self, line: str, answer: str) -> str:
        return {"steps": json.dumps([[1.02, 1.0]] * 3), "on": "1000", "off": "1040"}[line]

    def end(self) -> None: ...


def test_what_recording_costs_a_gpu_is_told_by_steps_and_by_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_overhead, "_vllm", lambda *_: Vllm())
    steps, _, generations, _ = gpu_overhead.measure(Path(), True)
    assert (round(steps.measured, 6), steps.spread) == (2, "2.00 to 2.00, 95 %, n=6")
    assert (round(generations.measured, 6), generations.held) == (4, False)


def test_streams_are_held_to_their_calls_beside_the_single_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(command: list[str]) -> dict[str, object]:
        value, count = command[-3], int(command[-2])
        times = {f"{name}_s": 9e-6 for name in ("p50", "p99", "first", "driver_p99", "idle_p99", "max", "delay")}
        blocked = 1024 if value == "single" and count > 100 else None
        some = {"in_flight": count, "private_bytes": 1 << 20, "pinned_bytes": 1 << 20, "corrupted": 0}
        return times | some | {"first_blocked": blocked}

    monkeypatch.setattr(streams, "found", found)
    rows = {row.what: row for row in streams.measure(Path(), True)}
    assert rows["bounded, 1000 in flight: p99 of a submit call"].held
    assert rows["bounded, 1000 in flight: p99 of a submit call"].ratio == pytest.approx(1)
    cliff = rows["single: counts at which a call waits for room"]
    assert (cliff.measured, cliff.held, cliff.spread) == (1, None, "the first is call 1024")
