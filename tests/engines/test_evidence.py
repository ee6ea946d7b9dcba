"""What a run's events say of its settings: held to runs of the real engine, and to runs made to say otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import workbench
from workbench.compare.evidence import evidence
from workbench.config import EngineConfig
from workbench.recorder.settings import Settings
from workbench.run.evidence import CANNOT_TELL, NOT_OBSERVED, OBSERVED
from workbench.run.manifest import FAILED
from workbench.run.run import Run
from workbench.run.store import Store


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = EngineConfig(model=str(tiny_model), dtype="float32").with_setting("limits.kv_budget", "1MiB")
    store = Store(tmp_path_factory.mktemp("runs"))
    return workbench.generate(config.with_setting("graphs", "none"), "a", store=store, max_tokens=3).run


def asked(run: Run, name: str, value: str) -> Run:
    """The same run, as if another value had been asked for."""
    config = EngineConfig.from_dict(run.manifest.config or {}).with_setting(name, value)
    other = Run.open(run.folder)
    other.manifest = replace(other.manifest, config=config.to_dict())
    return other


def verdict(run: Run, setting: str) -> str:
    [found] = [one.verdict for one in evidence(run) if one.setting.startswith(setting)]
    return found


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ("1MiB", OBSERVED),
        ("1027KiB", OBSERVED),  # less than a block more than there is: a block of this model is 4 KiB
        ("1028KiB", NOT_OBSERVED),
        ("1021KiB", OBSERVED),  # less than a block more than asked, as vLLM's tables of its blocks are
        ("1020KiB", NOT_OBSERVED),
        ("4096 tokens", OBSERVED),
        ("4095 tokens", OBSERVED),
        ("4097 tokens", NOT_OBSERVED),
    ],
)
def test_a_budget_is_observed_to_a_block(run: Run, budget: str, says: str) -> None:
    assert verdict(asked(run, "limits.kv_budget", budget), "limits.kv_budget") == says


def test_a_share_is_held_to_what_the_engine_reckons_it_to_leave(run: Run) -> None:
    other = asked(run, "limits.kv_budget", "50%")
    assert verdict(other, "limits.kv_budget") == OBSERVED
    notes = other.manifest.notes["engine"]
    for room, says in (((1 << 20) + 4096, NOT_OBSERVED), (None, CANNOT_TELL)):
        other.manifest.notes["engine"] = notes | {"kv_room_bytes": room}
        assert verdict(other, "limits.kv_budget") == says


def test_a_share_of_the_host_is_observed(tiny_model: Path, tmp_path: Path) -> None:
    config = EngineConfig(model=str(tiny_model)).with_setting("limits.kv_budget", "0.05%")
    run = workbench.generate(config, "a", store=Store(tmp_path), max_tokens=3).run
    [found] = evidence(run)
    assert found.verdict == OBSERVED, found
    assert "bytes are what that share leaves, by the engine's word" in found.why


def test_a_cache_that_is_too_small_to_be_recorded_by_itself_is_said_to_be(tiny_model: Path, tmp_path: Path) -> None:
    config = EngineConfig(model=str(tiny_model), dtype="float32").with_setting("limits.kv_budget", "64 tokens")
    small, lower = (
        workbench.generate(config, "a", store=Store(tmp_path), settings=Settings(threshold=below), max_tokens=3).run
        for below in (64 << 10, 16 << 10)
    )
    [found] = evidence(small)
    assert found.verdict == CANNOT_TELL
    how = "below 64.00 KiB no block is recorded by itself: record with a lower threshold"
    assert found.why == f"no memory is tagged kv_cache: the cache is 16.00 KiB, by the engine's word, and {how}"
    small.manifest.notes["engine"] = small.manifest.notes["engine"] | {"kv_cache_bytes": 64 << 10}
    assert [one.why for one in evidence(small)] == ["no memory is tagged kv_cache"]
    assert verdict(lower, "limits.kv_budget") == OBSERVED


def test_what_vllm_keeps_for_itself_is_no_room(run: Run) -> None:
    other = asked(run, "limits.kv_budget", "4080 tokens")
    other.manifest.notes["engine"] = other.manifest.notes["engine"] | {"kv_cache_tokens": 4080}
    assert verdict(other, "limits.kv_budget") == OBSERVED


def test_the_numbers_are_in_it(run: Run) -> None:
    [budget] = [one for one in evidence(run) if one.setting.startswith("limits")]
    assert "1048576 bytes) tagged kv_cache, 256 blocks: 0 bytes less than asked" in budget.why


def test_nothing_is_said_of_what_was_not_asked(run: Run) -> None:
    quiet = asked(asked(run, "limits.kv_budget", "none"), "graphs", "stock")
    assert evidence(quiet) == []


RECORDED = Path(__file__).parents[2] / "data" / "runs"


@pytest.mark.parametrize(("value", "says"), [("full", OBSERVED), ("piecewise", OBSERVED), ("none", NOT_OBSERVED)])
def test_graphs_show_in_the_driver_s_memory(value: str, says: str) -> None:
    [recorded] = [run for run in Store(RECORDED).runs() if run.manifest.name == "vllm-nccl-lazy"]
    recorded.manifest = replace(recorded.manifest, config=EngineConfig().with_setting("graphs", value).to_dict())
    assert verdict(recorded, f"graphs {value}") == says


@pytest.mark.parametrize(
    ("kind", "says"),
    [("full", OBSERVED), ("full_decode_only", OBSERVED), ("piecewise", NOT_OBSERVED), ("none", NOT_OBSERVED)],
)
def test_graphs_of_another_kind_than_was_asked_for_are_told(kind: str, says: str) -> None:
    [recorded] = [run for run in Store(RECORDED).runs() if run.manifest.name == "vllm-nccl-lazy"]
    notes = recorded.manifest.notes | {"engine": {"graphs": kind}}
    config = EngineConfig().with_setting("graphs", "full").to_dict()
    recorded.manifest = replace(recorded.manifest, config=config, notes=notes)
    [graphs] = [one for one in evidence(recorded) if one.setting == "graphs full"]
    assert (graphs.verdict, f"are {kind} by the engine's word" in graphs.why) == (says, True)


@pytest.mark.parametrize("setting", ["graphs full", "graphs none", "process_group gloo", "process_group nccl-lazy"])
def test_what_only_a_source_sees_that_was_off_can_not_be_told(setting: str) -> None:
    [recorded] = [run for run in Store(RECORDED).runs() if run.manifest.name == "vllm-tensor-2-nccl-lazy"]
    blind = asked(recorded, *setting.split(" "))
    blind.manifest.sources["driver"] = ["off: left out on request"]
    [found] = [one for one in evidence(blind) if one.setting == setting]
    assert (found.verdict, found.why) == (CANNOT_TELL, "the source driver was off: left out on request")


def test_ranks_are_not_counted_where_nothing_of_torch_s_was_seen(run: Run) -> None:
    two = asked(run, "parallel.tensor", "2")
    assert verdict(two, "parallel.tensor 2") == NOT_OBSERVED
    two.manifest.sources["torch"] = ["off: left out on request"]
    assert verdict(two, "parallel.tensor 2") == CANNOT_TELL


@pytest.mark.parametrize("has_answered", [True, False])
def test_what_a_run_lacks_that_ended_before_its_engine_was_ready_might_have_come(run: Run, has_answered: bool) -> None:
    failed = asked(run, "parallel.tensor", "2")
    failed.manifest.status = FAILED
    if not has_answered:
        failed._tables["phases"] = run.table("phases").slice(0, 0)
    [found] = [one for one in evidence(failed) if one.setting == "parallel.tensor 2"]
    if has_answered:
        assert found.verdict == NOT_OBSERVED
    else:
        assert (found.verdict, found.why.endswith("; its engine was not ready by its end")) == (CANNOT_TELL, True)


@pytest.mark.parametrize("engine", ["reference", "vllm"])
@pytest.mark.parametrize("graphs", ["none", "piecewise", "full"])
def test_recorded_runs_had_the_graphs_that_they_asked_for(engine: str, graphs: str) -> None:
    [recorded] = [run for run in Store(RECORDED).runs() if run.manifest.name == f"graphs-{engine}-{graphs}"]
    for other in ("none", "piecewise", "full"):
        says = OBSERVED if other == graphs else NOT_OBSERVED
        assert verdict(asked(recorded, "graphs", other), f"graphs {other}") == says


def test_no_graphs_are_observed_where_there_is_no_gpu(run: Run) -> None:
    assert verdict(run, "graphs none") == OBSERVED
