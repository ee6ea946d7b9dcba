"""Process groups on a CUDA host: what each kind takes of the device, in both engines and between two GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workbench.compare.evidence import evidence
from workbench.config import EngineConfig, Limits, Workload
from workbench.config.models import resolve
from workbench.engines import why_not
from workbench.errors import EngineError
from workbench.launch.generation import generate
from workbench.launch.programs import record_program
from workbench.launch.session import Session
from workbench.mechanisms.meeting import private_store
from workbench.mechanisms.process_group import communicators
from workbench.run.evidence import OBSERVED
from workbench.run.run import Run
from workbench.run.store import Store

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

MIB = 1 << 20
PROGRAM = Path(__file__).parent / "programs" / "ranks.py"
KINDS = ("nccl-lazy", "nccl-eager", "gloo")
WORKLOAD = Workload(("Tell me about apples", "Sing of pears"), max_tokens=16, stop_at_end=False)
needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


def config(engine: str, **settings: Any) -> EngineConfig:
    chosen = EngineConfig(engine=engine, model=str(resolve("smollm2")), limits=Limits(max_length=1024))
    for name, value in ({"limits.kv_budget": "200MiB"} | settings).items():
        chosen = chosen.with_setting(name, value)
    return chosen


def nccl_bytes(run: Run) -> int:
    return sum(one.bytes for one in communicators(run))


@pytest.mark.parametrize("engine", ["reference", "vllm"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_observed_in_each_engine(engine: str, kind: str, tmp_path: Path) -> None:
    if reason := why_not(engine):
        pytest.skip(reason)
    run = generate(config(engine, process_group=kind), WORKLOAD, store=Store(tmp_path)).run
    found = {one.setting: one for one in evidence(run)}
    assert found[f"process_group {kind}"].verdict == OBSERVED, found
    assert bool(nccl_bytes(run)) == (kind == "nccl-eager")


def test_the_text_is_the_same_whatever_the_group(tmp_path: Path) -> None:
    said = [
        [
            answer.text
            for answer in generate(config("reference", process_group=kind), WORKLOAD, store=Store(tmp_path)).answers
        ]
        for kind in KINDS
    ]
    assert said[0] == said[1] == said[2]


def test_an_eager_group_names_every_group_of_vllm(tmp_path: Path) -> None:
    if reason := why_not("vllm"):
        pytest.skip(reason)
    run = generate(config("vllm", process_group="nccl-eager"), WORKLOAD, store=Store(tmp_path)).run
    found = communicators(run)
    assert {"default", "world", "tp", "pp"} <= {one.group for one in found}
    assert nccl_bytes(run) / MIB == pytest.approx(388 * len(found), rel=0.05)


@pytest.mark.parametrize("engine", ["reference", "vllm"])
def test_an_eager_engine_that_is_killed_leaves_no_store(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := why_not(engine):
        pytest.skip(reason)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    with Session(config(engine, process_group="nccl-eager"), store=Store(tmp_path / "runs")) as session:
        assert list(temporary.glob("*/workbench-group-*/store"))
        os.kill(session._process.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="killed by SIGKILL"):
            session.generate(WORKLOAD)
    assert not list(temporary.iterdir())


def recorded(folder: Path, *arguments: str) -> Run:
    return record_program([sys.executable, str(PROGRAM), *arguments], store=Store(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_of_one_takes_nccl_s_memory_when_it_connects(kind: str, tmp_path: Path) -> None:
    run = recorded(tmp_path, kind, "1")
    assert run.manifest.status == "complete"
    phases = {one.phase for one in communicators(run)}
    assert phases == {"nccl-lazy": {"all_reduce"}, "nccl-eager": {"process_group"}, "gloo": set()}[kind]


def test_a_hundred_eager_groups_leave_no_device_memory() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "nccl-eager", "1", "100"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@needs_two
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_each_take_the_same(kind: str, tmp_path: Path) -> None:
    run = recorded(tmp_path, kind, "2")
    assert run.manifest.status == "complete"
    taken: dict[int, int] = {}
    for one in communicators(run):
        taken[one.process] = taken.get(one.process, 0) + one.bytes
    assert len(taken) == (0 if kind == "gloo" else 2)
    if taken:
        first, second = taken.values()
        assert first == pytest.approx(second, rel=0.05)


@needs_two
@pytest.mark.parametrize("kind", ["stock", "nccl-eager"])
def test_tensor_parallel_2_through_vllm(kind: str, tmp_path: Path) -> None:
    if reason := why_not("vllm"):
        pytest.skip(reason)
    chosen = config("vllm", **{"parallel.tensor": 2, "model": "qwen3-0.6b", "process_group": kind})
    chosen = chosen.with_setting("graphs", "none")  # groups are the same, and nothing is compiled for minutes
    run = generate(chosen, WORKLOAD, store=Store(tmp_path)).run
    ranks = run.manifest.notes["process_group"]["ranks"]
    assert [(rank["rank"], rank["backend"], rank["metadata"]) for rank in ranks] == [
        (0, "nccl", "gloo"),
        (1, "nccl", "gloo"),
    ]
    assert len({one.process for one in communicators(run)}) == 2
    verdicts = {one.setting: one.verdict for one in evidence(run)}
    assert verdicts["parallel.tensor 2"] == OBSERVED
    assert verdicts.get(f"process_group {kind}", OBSERVED) == OBSERVED


@needs_two
def test_a_rank_that_does_not_come_ends_the_other_in_time() -> None:
    with private_store() as store:
        lonely = [sys.executable, str(PROGRAM), "nccl-eager", "0", "2", store, "5"]
        done = subprocess.run(lonely, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("rank 1 did not come within 5 s")
