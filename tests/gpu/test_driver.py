"""The driver source on a CUDA host: runs of real programs, held to what NVML says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workbench.launch.session import record_program
from workbench.run.run import Run
from workbench.run.store import Store

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

PROGRAMS = Path(__file__).parent / "programs"
MIB = 1 << 20


def recorded(folder: Path, program: str, *arguments: str) -> Run:
    command = [sys.executable, str(PROGRAMS / program), *arguments]
    return record_program(command, name=program, store=Store(folder))


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


def test_graphs_replay_and_a_profiler_sees_cuda_while_recorded(tmp_path: Path) -> None:
    run = recorded(tmp_path, "graph_and_profiler.py")
    assert run.manifest.status == "complete"
    assert at_end_of(run, "graph")
    phases = run.phases().set_index("name")
    events = run.events()
    driver = events[(events["layer"] == "driver") & (events["tier"] == "gpu")]
    after = phases.loc["after"]
    assert driver["time_ns"].between(after["start_ns"], after["end_ns"]).any()
