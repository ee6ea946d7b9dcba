"""Streams on a CUDA host: distinct, right, quick, and all given back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from workbench.compare.evidence import evidence
from workbench.launch.programs import record_program
from workbench.mechanisms.streams.values import VALUES
from workbench.run.evidence import OBSERVED
from workbench.run.store import Store
from workbench.studies.kv_streams import NOTE
from workbench.studies.kv_streams_program import rounds_of

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

PROGRAM = Path(__file__).parent / "programs" / "streams.py"
STUDY = [sys.executable, "-m", "workbench.studies.kv_streams_program"]
MIB = 1 << 20


def said(*command: str) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def program(name: str) -> dict[str, Any]:
    return said(sys.executable, str(PROGRAM), name)


def study(value: str, in_flight: int, *more: str) -> dict[str, Any]:
    return said(*STUDY, value, str(in_flight), "4096", *more)


def times_us(found: dict[str, Any]) -> dict[str, float]:
    """What a round's calls took."""
    names = ("p50", "p99", "idle_p99", "max", "first", "driver_p99", "submit", "total", "delay")
    return {name: round(found[f"{name}_s"] * 1e6, 2) for name in names}


def test_streams_are_distinct_and_run_more_at_a_time_than_torchs() -> None:
    found = program("distinct")
    assert (found["ours"], found["torchs"]) == (64, 32)
    assert found["ours_s"] < 1.5 * found["one_s"]  # all at once
    assert found["torchs_s"] > 1.8 * found["one_s"]  # two on each


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("in_flight", "more"), [(1, ()), (300, ()), (3000, ()), (3000, ["no-thread"])])
def test_every_value_moves_the_right_bytes(value: str, in_flight: int, more: Sequence[str]) -> None:
    assert study(value, in_flight, *more)["corrupted"] == 0


@pytest.mark.parametrize("value", VALUES)
def test_without_order_bytes_are_corrupted(value: str) -> None:
    assert study(value, 300, "unordered")["corrupted"] > 0


@pytest.mark.parametrize("in_flight", [1, 10, 100, 1000, 10_000, 100_000])
@pytest.mark.parametrize("value", ["per-transfer", "bounded"])
def test_up_to_a_hundred_thousand_small_transfers_hold_nobody_up(value: str, in_flight: int) -> None:
    found = study(value, in_flight)
    told = f"{value}, {in_flight} in flight, us: {times_us(found)}"
    assert found["corrupted"] == 0, f"{found['corrupted']} blocks; {told}"
    assert found["first_blocked"] is None, f"call {found['first_blocked']} waited for room; {told}"
    private, pinned = (found[f"{which}_bytes"] / MIB for which in ("private", "pinned"))
    assert private + pinned <= 1024, f"{private:.0f} MiB private, {pinned:.0f} MiB page-locked; {told}"
    assert found["p99_s"] < 10e-6, told


@pytest.mark.parametrize(("value", "queues"), [("per-transfer", "1"), ("bounded", "2"), ("bounded", "32")])
def test_with_other_queues_nobody_is_held_up_either(value: str, queues: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", queues)
    found = study(value, 20_000)
    assert (found["first_blocked"], found["corrupted"]) == (None, 0), f"{queues} queues, us: {times_us(found)}"


def test_a_thread_that_is_new_to_cuda_submits_too() -> None:
    assert program("thread") == {"arrived": 7}


def test_a_single_stream_has_its_cliff_where_its_queue_is_full() -> None:
    """A copy and its end take a place each, in the queues of two directions."""
    few, many = study("single", 300), study("single", 3000)
    assert few["first_blocked"] is None, f"300 in flight, us: {times_us(few)}"
    assert 500 <= (many["first_blocked"] or 0) <= 1100, f"{many['first_blocked']}; us: {times_us(many)}"


@pytest.mark.parametrize("value", VALUES)
def test_every_copy_is_recorded_once_and_with_all_its_times(tmp_path: Path, value: str) -> None:
    in_flight = 600
    run = record_program([*STUDY, value, str(in_flight), "4096"], name=value, store=Store(tmp_path))
    assert run.manifest.status == "complete"
    assert run.manifest.notes[NOTE]["corrupted"] == 0
    copies = run.table("copies").to_pandas()
    blocks = copies[copies["bytes"] == 4096]
    each = (1 + rounds_of(in_flight)) * in_flight // 2
    assert blocks["direction"].astype(str).value_counts().to_dict() == {"host to device": each, "device to host": each}
    times = blocks[["time_ns", "handed_ns", "start_ns", "end_ns"]]
    assert times.notna().all(axis=None)
    assert blocks["call_ns"].notna().all()
    assert (times.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    [found] = evidence(run)
    assert found.verdict == OBSERVED, found.why


def test_a_thousand_rounds_leak_nothing() -> None:
    found = program("rounds")
    before, after = found["before"], found["after"]
    assert (after["files"], after["shared"]) == (before["files"], before["shared"])
    assert after["device"] - before["device"] <= 2 * MIB
    assert after["private"] - before["private"] <= 8 * MIB


def test_a_thousand_failures_in_the_middle_leak_nothing() -> None:
    found = program("failures")
    assert (found["failed"], found["arrived"]) == (1000, 7)
    assert found["left"] <= 2 * MIB


def test_a_fork_is_told_that_the_streams_are_its_parents() -> None:
    assert program("fork")["said"].endswith("and this is its fork: CUDA needs a `spawn`")
