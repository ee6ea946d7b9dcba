"""What a CUDA host's runs say of a KV budget and of graphs, under both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.compare.evidence import evidence
from workbench.config import EngineConfig, Limits, Workload
from workbench.config.models import resolve
from workbench.engines import why_not
from workbench.launch.generation import generate
from workbench.run.evidence import OBSERVED
from workbench.run.store import Store

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

WORKLOAD = Workload(("Tell me about apples",), max_tokens=8, stop_at_end=False)
ASKED = [("20%", "none"), ("4096 tokens", "full"), ("200MiB", "piecewise")]


@pytest.mark.parametrize("engine", ["reference", "vllm"])
@pytest.mark.parametrize(("budget", "graphs"), ASKED)
def test_budget_and_graphs_are_observed(engine: str, budget: str, graphs: str, tmp_path: Path) -> None:
    if reason := why_not(engine):
        pytest.skip(reason)
    config = EngineConfig(engine=engine, model=str(resolve("smollm2")), limits=Limits(max_length=1024))
    config = config.with_setting("limits.kv_budget", budget).with_setting("graphs", graphs)
    run = generate(config, WORKLOAD, store=Store(tmp_path)).run
    found = {one.setting.split()[0]: one for one in evidence(run)}
    assert found["limits.kv_budget"].verdict == OBSERVED, found
    assert found["graphs"].verdict == OBSERVED, found
