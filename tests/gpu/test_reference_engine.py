"""The reference engine on a CUDA device: its tokens are the library's own, with and without graphs."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from workbench.compare.evidence import evidence
from workbench.config import EngineConfig, KvBudget, Limits, Workload
from workbench.config.models import resolve
from workbench.engines.reference.engine import ReferenceEngine
from workbench.launch.generation import generate
from workbench.recorder.probe import NullProbe
from workbench.run.store import Store

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

PROMPTS = tuple(f"{what} {fruit}" for what in ("Tell me about", "Sing of") for fruit in ("apples", "pears", "figs"))
LONG = "Count the stars in the sky, and begin anew whenever you lose your place. " * 20


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return resolve("smollm2")


@pytest.fixture(scope="module")
def expected(smollm2: Path) -> list[list[int]]:
    """What the library's own greedy generation answers in float32, prompt by prompt."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(smollm2)
    whole: Any = transformers.AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).to("cuda")
    found = []
    for prompt in (*PROMPTS, LONG):
        inputs = tokenizer(prompt, return_tensors="pt").to("cuda")
        out = whole.generate(inputs["input_ids"], max_new_tokens=48, do_sample=False)
        found.append(out[0, inputs["input_ids"].shape[1] :].tolist())
    return found


def answers(model: Path, graphs: str, **limits: Any) -> list[list[int]]:
    config = EngineConfig(model=str(model), dtype="float32", limits=Limits(max_length=1024, **limits))
    engine = ReferenceEngine()
    engine.load(config.with_setting("graphs", graphs), NullProbe())
    found: dict[int, list[int]] = {}
    for piece in chain.from_iterable(engine.generate(Workload((*PROMPTS, LONG), max_tokens=48))):
        found.setdefault(piece.request, []).extend(piece.ids)
    engine.close()
    return [found[request] for request in sorted(found)]


@pytest.mark.parametrize("graphs", ["none", "piecewise", "full"])
def test_greedy_answers_are_the_library_s(smollm2: Path, expected: list[list[int]], graphs: str) -> None:
    assert answers(smollm2, graphs, max_sequences=5) == expected


def test_chunks_and_preemption_change_no_token(smollm2: Path, expected: list[list[int]]) -> None:
    budget = KvBudget(640, "tokens")
    assert answers(smollm2, "full", max_sequences=7, max_batched_tokens=64, kv_budget=budget) == expected


@pytest.mark.parametrize(("graphs", "verdict"), [("none", "observed"), ("piecewise", "observed"), ("full", "observed")])
def test_graphs_and_budget_show_in_the_events(smollm2: Path, tmp_path: Path, graphs: str, verdict: str) -> None:
    config = EngineConfig(model=str(smollm2), limits=Limits(max_length=1024)).with_setting("graphs", graphs)
    config = config.with_setting("limits.kv_budget", "200MiB")
    run = generate(config, PROMPTS, store=Store(tmp_path), max_tokens=16).run
    found = {one.setting: (one.verdict, one.why) for one in evidence(run)}
    assert found[f"graphs {graphs}"][0] == verdict, found
    assert found["limits.kv_budget 200 MiB"][0] == "observed", found
