"""Requests that lose their blocks and get others answer as if they had kept them, whoever had them in between."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from tests.probes import Notes, generated
from workbench.config import EngineConfig, KvBudget, Limits, Workload
from workbench.engines.reference.engine import ReferenceEngine
from workbench.engines.reference.sampling import Sampler
from workbench.engines.reference.sequences import Sequence

SEATS = 8
MOST = 128  # tokens that the model takes


def loaded(model: Path, tokens: int, notes: Notes, most_batched: int = 2048) -> ReferenceEngine:
    limits = Limits(max_sequences=SEATS, kv_budget=KvBudget(tokens, "tokens"), max_batched_tokens=most_batched)
    made = ReferenceEngine()
    made.load(EngineConfig(model=str(model), dtype="float32", limits=limits), notes)
    return made


def workload(chance: random.Random) -> Workload:
    """Prompts of which some begin alike, and some are the same."""
    beginnings = ["".join(chance.choices("abcd", k=chance.randrange(60))) for _ in range(2)]
    ends = ["".join(chance.choices("ab", k=chance.randrange(1, 20))) for _ in range(3)]
    prompts = tuple(chance.choice(beginnings) + chance.choice(ends) for _ in range(chance.randrange(3, 10)))
    temperature = chance.choice([0.0, 1.0])
    return Workload(prompts, max_tokens=chance.randrange(8, MOST - 79), temperature=temperature, stop_at_end=False)


def answers(engine: ReferenceEngine, asked: Workload) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in asked.prompts]
    for token in generated(engine, asked):
        found[token.request].append(token.id)
    return found


@pytest.mark.parametrize("tokens", [128, 144, 192])
@pytest.mark.parametrize("most_batched", [33, 2048])
def test_no_want_of_blocks_changes_a_token(tiny_model: Path, tokens: int, most_batched: int) -> None:
    chance, notes = random.Random(tokens + most_batched), Notes()
    small, large = loaded(tiny_model, tokens, notes, most_batched), loaded(tiny_model, 10_000, Notes())
    for _ in range(10):
        asked = workload(chance)
        assert answers(small, asked) == answers(large, asked)
        assert small._pool.held == 0
    assert sum(step.waiting > 0 for step in notes.steps) > 50  # there was want of blocks


def test_no_number_draws_what_the_rules_exclude(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest number below 1 is 1 in float32."""
    sampler = Sampler(Workload(("a",), temperature=1.0, top_k=3))
    monkeypatch.setattr(random.Random, "random", lambda _: 1 - 2**-53)
    logits = torch.linspace(1, 0, 50)[None]
    sequence = Sequence(request=0, index=0, tokens=[1], prompt=1, most=9)
    assert sampler(logits, [sequence]).tolist() == [2]
