"""The driver source on a CUDA host: runs of real programs, held to what NVML says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from workbench.launch.programs import record_program
from workbench.recorder.settings import Settings
from workbench.run.run import Run
from workbench.run.store import Store

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

PROGRAMS = Path(__file__).parent / "programs"
MIB = 1 << 20
FIRST_MEASURED = 1 << 56  # no driver hands addresses out from here on


def recorded(folder: Path, program: str, *arguments: str, settings: Settings | None = None) -> Run:
    command = [sys.executable, str(PROGRAMS / program), *arguments]
    return record_program(command, name=program, store=Store(folder), settings=settings)


def at_end_of(run: Run, phase: str) -> dict[str, int]:
    """MiB by owner at a phase's end, where at most 1 % of what is used may be unexplained."""
    phases = run.phases()
    ledger = run.ledger("gpu", int(phases[phases["name"] == phase]["end_ns"].iloc[0]))
    assert ledger.used
    assert abs(ledger.unexplained or 0) <= ledger.used / 100
    return {owner: size // MIB for owner, size in ledger.by_owner().items()}


def test_the_context_alone(tmp_path: Path) -> None:
    owners = at_end_of(recorded(tmp_path, "process_group.py", "context"), "context")
    assert sum(owners.get(owner, 0) for owner in ("context", "modules", "torch", "libc10_cuda.so")) == pytest.approx(
        621, rel=0.05
    )


@pytest.mark.parametrize(("arm", "connects_in"), [("nccl-lazy", "all_reduce"), ("nccl-eager", "process_group")])
def test_nccl_connects_when_its_arm_says(tmp_path: Path, arm: str, connects_in: str) -> None:
    run = recorded(tmp_path, "process_group.py", arm)
    assert at_end_of(run, connects_in)["libnccl.so.2"] == pytest.approx(388, rel=0.05)
    if arm == "nccl-lazy":
        assert "libnccl.so.2" not in at_end_of(run, "process_group")


def test_gloo_takes_nothing_of_the_device(tmp_path: Path) -> None:
    run = recorded(tmp_path, "process_group.py", "gloo")
    assert at_end_of(run, "all_reduce") == at_end_of(run, "context")


def driver_events(run: Run, tier: str) -> pd.DataFrame:
    """What a driver handed out at an address, without what was measured."""
    events = run.events()
    return events[(events["layer"] == "driver") & (events["tier"] == tier) & (events["address"] < FIRST_MEASURED)]


def test_the_hooks_see_what_cupti_sees(tmp_path: Path) -> None:
    pytest.importorskip("cupti")
    run = recorded(tmp_path, "driver_memory.py", str(tmp_path / "seen.json"))
    seen = json.loads((tmp_path / "seen.json").read_text())
    for name, tier in (("device", "gpu"), ("pinned", "pinned")):
        mine = driver_events(run, tier)
        taken = mine[mine["kind"] == "alloc"]
        assert {(address, size) for address, size, released in seen[name] if not released} <= set(
            zip(taken["address"], taken["asked"], strict=True)
        )
    assert at_end_of(run, "held")["torch"] - at_end_of(run, "given back")["torch"] >= 40


def test_registered_memory_is_pinned_and_not_pageable(tmp_path: Path) -> None:
    run = recorded(tmp_path, "driver_memory.py", str(tmp_path / "seen.json"))
    phases = run.phases().set_index("name")["end_ns"]
    moments = ("before registering", "registered", "unregistered")
    pinned, pageable = ([run.ledger(tier, int(phases[each])) for each in moments] for tier in ("pinned", "pageable"))
    assert [ledger.explained // MIB - pinned[0].explained // MIB for ledger in pinned] == [0, 32, 0]
    used = [ledger.used or 0 for ledger in pageable]
    assert [used[0] - used[1], used[2] - used[1]] == pytest.approx([32 * MIB, 32 * MIB], rel=0.05)
    for ledger in pageable:
        assert abs(ledger.unexplained or 0) <= (ledger.used or 0) / 20


def test_a_recording_that_begins_late_sees_what_comes_after(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(PROGRAMS / "late.py"), str(tmp_path)], check=True)
    [run] = Store(tmp_path).runs()
    taken = driver_events(run, "gpu")
    assert taken[(taken["kind"] == "alloc") & (taken["owner"] == "libc10_cuda.so")]["asked"].tolist() == [300 * MIB]
    assert (taken["kind"] == "free").sum() == 1
    assert driver_events(run, "pinned")["tag"].tolist() == ["mine"]
    assert at_end_of(run, "given back")


def test_graphs_replay_and_a_profiler_sees_cuda_while_recorded(tmp_path: Path) -> None:
    run = recorded(tmp_path, "graph_and_profiler.py")
    assert run.manifest.status == "complete"
    assert at_end_of(run, "graph")
    phases = run.phases().set_index("name")
    events = run.events()
    driver = events[(events["layer"] == "driver") & (events["tier"] == "gpu")]
    after = phases.loc["after"]
    assert driver["time_ns"].between(after["start_ns"], after["end_ns"]).any()


@pytest.mark.parametrize("device_times", [False, True])
def test_copies_tell_when_they_were_submitted_or_on_request_when_they_ran(tmp_path: Path, device_times: bool) -> None:
    if device_times:
        pytest.importorskip("cupti")
    run = recorded(tmp_path, "copies.py", settings=Settings(copies=device_times))
    phase = run.phases().set_index("name").loc["copies"]
    copies = run.table("copies").to_pandas()
    copies = copies[(copies["bytes"] == 32 * MIB) & copies["time_ns"].between(phase["start_ns"], phase["end_ns"])]
    assert copies["direction"].value_counts().to_dict() == {"host to device": 3, "device to host": 3}
    assert copies["stream"].nunique() == 2
    assert copies["start_ns"].notna().tolist() == [device_times] * 6
    if device_times:
        assert (copies["end_ns"] <= phase["end_ns"]).all()
        assert (32 * MIB / (copies["end_ns"] - copies["start_ns"])).between(5, 100).all()  # GB/s: what a bus can do
