"""The baseline engine answers like the library it stands for, and reports what it does while it does it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.config import EngineConfig, Limits, Workload
from workbench.engines import Token, engine, engines
from workbench.engines.transformers import Sampler, TransformersEngine
from workbench.errors import EngineError, UsageError
from workbench.record.probe import NullProbe, Probe

PROMPTS = ("the quick fox", "a", "jumps over it")


class Notes:
    """A probe that keeps what it is told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.tags: set[tuple[str, ...]] = set()
        self.told: list[tuple[int, int, int]] = []
        self._open: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.phases.append(name)
        yield
        self.phases.append(f"end of {name}")

    @contextmanager
    def tag(self, name: str) -> Iterator[None]:
        self._open.append(name)
        self.tags.add(tuple(self._open))
        yield
        self._open.pop()

    def tokens(self, request: int, position: int, count: int = 1) -> None:
        self.told.append((request, position, count))


def loaded(model: Path, probe: Probe | None = None, **limits: Any) -> TransformersEngine:
    made = TransformersEngine()
    made.load(EngineConfig(model=str(model), limits=Limits(**limits)), probe or NullProbe())
    return made


def answers(tokens: list[Token]) -> dict[int, list[int]]:
    by_request: dict[int, list[int]] = {}
    for token in tokens:
        by_request.setdefault(token.request, []).append(token.id)
        assert token.position == len(by_request[token.request]) - 1
    return by_request


def reference(model: Path, prompt: str, most: int) -> list[int]:
    """What the library's own greedy generation answers."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    inputs = tokenizer(prompt, return_tensors="pt")
    whole: Any = AutoModelForCausalLM.from_pretrained(model)
    out = whole.generate(inputs["input_ids"], max_new_tokens=most, do_sample=False)
    answer: list[int] = out[0, inputs["input_ids"].shape[1] :].tolist()
    return answer


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_greedy_answers_are_the_library_s_own_however_they_are_batched(tiny_model: Path, at_once: int) -> None:
    tokens = list(loaded(tiny_model, max_sequences=at_once).generate(Workload(PROMPTS, max_tokens=20)))
    expected = {index: reference(tiny_model, prompt, 20) for index, prompt in enumerate(PROMPTS)}
    assert answers(tokens) == expected
    assert len(set(map(tuple, expected.values()))) == len(PROMPTS)


def test_the_text_of_tokens_is_the_answer(tiny_model: Path) -> None:
    tokens = list(loaded(tiny_model).generate(Workload(("the",), max_tokens=12, stop_at_end=False)))
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    text = "".join(token.text for token in tokens)
    assert text == tokenizer.decode([token.id for token in tokens], skip_special_tokens=True)
    assert text


def test_sampling_depends_on_the_seed_and_nothing_else(tiny_model: Path) -> None:
    made = loaded(tiny_model)
    ask = {seed: Workload(PROMPTS, max_tokens=20, temperature=1.5, seed=seed, stop_at_end=False) for seed in (1, 2)}
    first, again, other = (answers(list(made.generate(ask[seed]))) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_sampling_draws_by_probability() -> None:
    logits = torch.tensor([[0.0, 1.0, -torch.inf]]).repeat(20_000, 1)
    counts = torch.bincount(Sampler(0.5, 0, torch.device("cpu"))(logits), minlength=3)
    assert counts[2] == 0
    assert counts[1] / 20_000 == pytest.approx(0.881, abs=0.01)  # e^2 / (1 + e^2)


def test_an_answer_ends_where_it_should(tiny_model: Path) -> None:
    made = loaded(tiny_model, max_length=10)
    made._ends = set(range(28))
    assert [len(ids) for ids in answers(list(made.generate(Workload(("abc",))))).values()] == [1]
    go_on = Workload(("abc", "abcdef"), max_tokens=5, stop_at_end=False)
    assert [len(ids) for ids in answers(list(made.generate(go_on))).values()] == [5, 4]


def test_phases_tags_and_tokens_are_reported(tiny_model: Path) -> None:
    notes = Notes()
    made = loaded(tiny_model, notes, max_sequences=2)
    tokens = list(made.generate(Workload(PROMPTS, max_tokens=3, stop_at_end=False)))
    made.close()
    made.close()
    batch = ["prefill", "end of prefill", "decode", "end of decode"]
    assert notes.phases == ["load_weights", "end of load_weights", *batch, *batch, "teardown", "end of teardown"]
    assert notes.tags == {("weights",), ("activations",), ("activations", "kv_cache")}
    assert notes.told == [(token.request, token.position, 1) for token in tokens]
    assert len(tokens) == 9


def test_close_drops_the_model(tiny_model: Path) -> None:
    made = loaded(tiny_model)
    list(made.generate(Workload(("abc",), max_tokens=3)))
    model = weakref.ref(made._model)
    made.close()
    assert model() is None


def test_what_can_not_be_done_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"leave limits\.kv_budget unset"):
        TransformersEngine().load(EngineConfig().with_setting("limits.kv_budget", "1GiB"), NullProbe())
    with pytest.raises(UsageError, match="a prompt of 9 tokens leaves no room for an answer within 9"):
        list(loaded(tiny_model, max_length=9).generate(Workload(("ninechars",))))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    broken = TransformersEngine()
    with pytest.raises(EngineError, match=f"transformers can not load {tmp_path}"):
        broken.load(EngineConfig(model=str(tmp_path)), NullProbe())
    broken.close()


def test_engines_are_found_by_name() -> None:
    assert engine("transformers") is TransformersEngine
    assert "transformers" in engines()
    with pytest.raises(UsageError, match="there is no engine 'transformer': did you mean 'transformers'"):
        engine("transformer")


def test_a_real_model_answers_in_real_words() -> None:
    made = TransformersEngine()
    made.load(EngineConfig(model="smollm2"), NullProbe())
    tokens = list(made.generate(Workload(("The capital of France is",), max_tokens=6)))
    assert "Paris" in "".join(token.text for token in tokens)
