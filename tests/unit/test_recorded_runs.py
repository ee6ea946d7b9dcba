"""The runs in data/runs, held to what was measured on the same kind of machine without a recorder."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.mechanisms.process_group import communicators
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.studies.kv_streams import NOTE

MIB = 1 << 20
STORE = Store(Path(__file__).parents[2] / "data" / "runs")
BEFORE = "before the run"


def recorded(name: str) -> Run:
    [run] = [run for run in STORE.runs() if run.manifest.name == name]
    return run


def named(run: Run) -> str:
    return run.manifest.name


def used_by_run(run: Run, phase: str) -> float:
    """MiB that NVML had as used at a phase's end, less what was in use before the run."""
    phases = run.phases()
    ledger = run.ledger("gpu", int(phases[phases["name"] == phase]["end_ns"].iloc[0]))
    assert ledger.used is not None
    return (ledger.used - ledger.by_owner()[BEFORE]) / MIB


@pytest.mark.parametrize(
    ("name", "phase", "measured"),
    [
        ("group-context", "context", 621),
        ("group-nccl-lazy", "process_group", 621),
        ("group-nccl-lazy", "all_reduce", 621 + 578),
        ("group-nccl-eager", "process_group", 621 + 558),
        ("group-nccl-eager", "all_reduce", 621 + 578),
        ("group-gloo", "all_reduce", 621),
        ("vllm-nccl-lazy", "init_device", 1318 - 615),
        ("vllm-nccl-lazy", "load_weights", 1826 - 615),
        ("vllm-nccl-lazy", "profile", 1954 - 615),
        ("vllm-nccl-lazy", "kv_cache", 8408 - 615),
        ("vllm-nccl-lazy", "capture", 8970 - 615),
    ],
)
def test_arms_take_what_was_measured_without_recording(name: str, phase: str, measured: float) -> None:
    assert used_by_run(recorded(name), phase) == pytest.approx(measured, rel=0.05)


def test_an_eager_group_of_one_costs_vllm_what_the_seed_said_itemised() -> None:
    beyond_torch = {}
    for arm in ("nccl-lazy", "nccl-eager", "gloo"):
        ledger = recorded(f"vllm-{arm}").ledger("gpu")
        owners = ledger.by_owner()
        beyond_torch[arm] = (sum(owners.values()) - owners["torch"]) / MIB
        assert ("libnccl.so.2" in owners) == (arm == "nccl-eager")
    assert beyond_torch["nccl-eager"] - beyond_torch["nccl-lazy"] == pytest.approx(2822, rel=0.05)
    assert beyond_torch["gloo"] == pytest.approx(beyond_torch["nccl-lazy"], rel=0.01)
    events = recorded("vllm-nccl-eager").events()
    nccl = events[(events["owner"] == "libnccl.so.2") & (events["tier"] == "gpu") & (events["kind"] == "alloc")]
    assert nccl["bytes"].sum() / MIB == pytest.approx(2716, rel=0.01)


@pytest.mark.parametrize("run", STORE.runs(), ids=named)
def test_at_every_phase_edge_at_most_one_percent_is_unexplained(run: Run) -> None:
    assert (run.manifest.status, run.manifest.lost) == ("complete", 0)
    most = 4 * MIB if "-100000-" in run.manifest.name else 2 * MIB  # with the times of 200,000 copies
    assert sum(path.stat().st_size for path in run.folder.iterdir()) <= most
    phases = run.phases()
    for moment in [*phases["start_ns"], *phases["end_ns"]]:
        device, host = (run.ledger(tier, int(moment)) for tier in ("gpu", "pageable"))
        assert device.used is not None
        assert host.used is not None
        assert abs(device.unexplained or 0) <= 0.01 * device.used
        assert abs(host.unexplained or 0) <= 0.05 * host.used


ARMS = [
    ("group-nccl-eager", "group-gloo"),
    ("vllm-nccl-eager", "vllm-gloo"),
    ("process-group-reference-nccl-eager", "process-group-reference-gloo"),
    ("process-group-vllm-nccl-eager", "process-group-vllm-gloo"),
]


@pytest.mark.parametrize("arms", ARMS, ids=lambda arms: arms[0])
def test_the_items_explain_what_nvml_sees_between_the_arms(arms: tuple[str, str]) -> None:
    ledgers = [[run.ledger("gpu") for run in STORE.runs() if run.manifest.name == name] for name in arms]
    assert all(ledgers)
    for eager, gloo in zip(*ledgers, strict=True):
        assert eager.used is not None
        assert gloo.used is not None
        apart = eager.used - gloo.used
        assert apart > 380 * MIB
        assert abs(apart - (eager.explained - gloo.explained)) <= 0.01 * apart


@pytest.mark.parametrize(
    ("name", "each", "phases"),
    [
        ("group-of-two-nccl-lazy", 484, {"all_reduce"}),
        ("group-of-two-nccl-eager", 484, {"process_group", "all_reduce"}),
        ("group-of-two-gloo", 0, set()),
        ("vllm-tensor-2-nccl-lazy", 484, {"init_device"}),
        ("vllm-tensor-2-nccl-eager", 2624, {"process_group", "init_device"}),
    ],
)
def test_each_of_two_ranks_gives_nccl_as_much(name: str, each: int, phases: set[str]) -> None:
    run = recorded(name)
    taken: dict[int, int] = {}
    for one in communicators(run):
        taken[one.process] = taken.get(one.process, 0) + one.bytes
    assert list(taken.values()) == ([each * MIB] * 2 if each else [])
    assert {one.phase for one in communicators(run)} == phases
    assert len(run.manifest.gpus) == 2


def test_told_its_gpu_vllm_in_two_connects_every_group_of_a_rank() -> None:
    groups: dict[int, dict[str, int]] = {}
    for one in communicators(recorded("vllm-tensor-2-nccl-eager")):
        groups.setdefault(one.process, {})[one.group] = one.bytes // MIB
    alone = dict.fromkeys(("dcp", "pcp", "pp", "dp"), 388)  # in each of these a rank is by itself
    assert list(groups.values()) == [{"default": 196, "world": 196, "tp": 392 + 288} | alone] * 2


@pytest.mark.parametrize("name", ["group-of-two-nccl-lazy", "group-of-two-nccl-eager"])
def test_what_one_rank_gave_back_is_in_use_until_the_other_lets_go(name: str) -> None:
    run = recorded(name)
    phases = run.phases()
    first, second = sorted(phases[phases["name"] == "teardown"]["end_ns"])
    still, gone = (run.ledger("gpu", int(moment)).by_owner().get("libnccl.so.2", 0) / MIB for moment in (first, second))
    assert (still, gone) == (484, 0)


@pytest.mark.parametrize("run", [run for run in STORE.runs() if "kv-streams" in run.manifest.name], ids=named)
def test_every_copy_was_submitted_handed_on_begun_and_over_in_that_order(run: Run) -> None:
    copies = run.table("copies").to_pandas()
    times = copies.loc[copies["start_ns"].notna(), ["time_ns", "handed_ns", "start_ns", "end_ns"]]  # less torch's own
    assert len(times) > run.manifest.notes[NOTE]["in_flight"] * run.manifest.notes[NOTE]["rounds"]
    assert times.notna().all(axis=None)
    assert (times.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
