"""The reference engine answers as the library's own model does, whatever way its tokens took through the engine."""

from __future__ import annotations

import dataclasses
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen3Config

from tests.probes import Notes, generated
from tests.reference import loaded
from workbench.config import EngineConfig, KvBudget, Limits, Workload
from workbench.config.models import resolve
from workbench.engines import Token, refuse
from workbench.engines.reference.batch import Tables
from workbench.engines.reference.blocks import BLOCK_SIZE
from workbench.engines.reference.engine import ReferenceEngine
from workbench.engines.reference.kv_budget import count_blocks, room_bytes
from workbench.engines.reference.sequences import Chunk, Sequence
from workbench.errors import UsageError, WorkbenchError

FRUITS = ("apples", "pears", "plums", "figs", "grapes")
PROMPTS = tuple(
    f"{what} {fruit}" for what in ("Tell me about", "Sing of", "Why are there", "I like") for fruit in FRUITS
)
WORDS = ("the quick fox", "a", "jumps over it", "z", "the quick fox jumps over the lazy dog and runs away from it all")


def answers(tokens: list[Token]) -> list[list[int]]:
    by_request: dict[int, list[int]] = {}
    for token in tokens:
        by_request.setdefault(token.request, []).append(token.id)
        assert token.position == len(by_request[token.request]) - 1
    return [by_request[request] for request in sorted(by_request)]


def texts(tokens: list[Token]) -> list[str]:
    by_request: dict[int, str] = {}
    for token in tokens:
        by_request[token.request] = by_request.get(token.request, "") + token.text
    return [by_request[request] for request in sorted(by_request)]


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return resolve("smollm2")


def library_s(model: Path, prompts: tuple[str, ...], most: int) -> list[list[int]]:
    """What the library's own greedy generation answers, prompt by prompt."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    whole: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    found = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        out = whole.generate(inputs["input_ids"], max_new_tokens=most, do_sample=False)
        found.append(out[0, inputs["input_ids"].shape[1] :].tolist())
    return found


def test_greedy_answers_of_the_real_model_are_the_library_s_own(smollm2: Path) -> None:
    """Each token is the likeliest after all before it: by induction, the answer that transformers gives."""
    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2)
    model: Any = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    engine = loaded(smollm2, max_sequences=8, max_length=256)
    for prompt, answer in zip(PROMPTS, answers(generated(engine, Workload(PROMPTS, max_tokens=64))), strict=True):
        start = tokenizer.encode(prompt)
        with torch.inference_mode():
            logits = model(torch.tensor([start + answer])).logits[0]
        assert answer == logits[len(start) - 1 : -1].argmax(-1).tolist()
        assert len(answer) == 64 or answer[-1] == tokenizer.eos_token_id


def logits_of(engine: ReferenceEngine, tokens: list[int]) -> torch.Tensor:
    """After every token of a sequence, in one step: [T, V]."""
    assert engine._runner is not None
    found = []
    for length in range(1, len(tokens) + 1):
        sequence = Sequence(0, 0, tokens[:length], length, length + 1, 0, blocks=list(range(64)), seat=0)
        batch = Tables(1, 64).batch([Chunk(sequence, 0, length)])
        found.append(engine._runner.run(batch)[0])
    return torch.stack(found)


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,  # by less, the way of turning would hardly show in the logits
}
FAMILIES: dict[str, Any] = {
    "llama, grouped, tied": LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True),
    "llama, rope llama3": LlamaConfig(**SIZES, num_key_value_heads=1, rope_parameters=LLAMA3),
    "llama, rope linear": LlamaConfig(
        **SIZES, num_key_value_heads=4, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    ),
    "qwen3": Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16),
}


SAVED = {"rope_type": "default", "rope_theta": 5e4}
NO_CONTEXT = {
    name: value for name, value in LLAMA3.items() if name not in ("rope_theta", "original_max_position_embeddings")
}
STRETCHED: dict[str, dict[str, Any]] = {
    "linear beside what was saved": {"rope_parameters": SAVED, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "linear with the model's theta": {"rope_theta": 7e4, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "linear with a theta of its own": {
        "rope_theta": 7e4,
        "rope_scaling": {"type": "linear", "factor": 4.0, "rope_theta": 3e4},
    },
    "llama3 beside what was saved": {"rope_parameters": SAVED, "rope_scaling": LLAMA3},
    "llama3 of the model's length": {"rope_parameters": SAVED, "rope_scaling": NO_CONTEXT},
    "llama3 of a length beside it": {"original_max_position_embeddings": 16, "rope_scaling": LLAMA3},
    "nothing beside what was saved": {"rope_parameters": LLAMA3, "rope_scaling": {}},
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_the_bits_change_logits_as_little_as_in_the_library(smollm2: Path, dtype: str) -> None:
    prompts = [AutoTokenizer.from_pretrained(smollm2).encode(prompt) for prompt in PROMPTS[:8]]
    engine = loaded(smollm2, dtype=dtype, max_sequences=1, max_length=128)
    ours = torch.cat([logits_of(engine, tokens) for tokens in prompts]).float()
    library: Any = {}
    for bits in (dtype, "float32"):
        model: Any = AutoModelForCausalLM.from_pretrained(smollm2, dtype=getattr(torch, bits))
        with torch.inference_mode():
            library[bits] = torch.cat([model(torch.tensor([tokens])).logits[0] for tokens in prompts]).float()
    # What all logits of a token are off by together changes nothing.
    off, theirs = (
        (found - library["float32"]).sub((found - library["float32"]).mean(1, keepdim=True)).abs().mean()
        for found in (ours, library[dtype])
    )
    assert 0 < off < 1.5 * theirs, (off, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_every_family_are_the_library_s(family: str, tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = FAMILIES[family]
    model: Any = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((tiny_model / "tokenizer.json").read_bytes())
    tokens = torch.randint(0, 96, (60,)).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0]
    assert (logits_of(loaded(tmp_path), tokens) - expected).abs().max() < 1e-3


@pytest.mark.parametrize("what", STRETCHED)
def test_a_stretched_context_is_the_library_s(what: str, tiny_model: Path, tmp_path: Path) -> None:
    """People write `rope_scaling` into a config.json that already has what the library saves of turning."""
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES))
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((tiny_model / "tokenizer.json").read_bytes())
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(saved | STRETCHED[what]))
    tokens = torch.randint(0, 96, (60,)).tolist()
    with torch.no_grad():
        plain = model(torch.tensor([tokens])).logits[0]
        expected = AutoModelForCausalLM.from_pretrained(tmp_path)(torch.tensor([tokens])).logits[0]
    assert (plain - expected).abs().max() > 1e-2
    assert (logits_of(loaded(tmp_path), tokens) - expected).abs().max() < 1e-4


def test_logits_of_the_real_model_are_the_library_s(smollm2: Path) -> None:
    tokens = AutoTokenizer.from_pretrained(smollm2)("The capital of France is a city that").input_ids
    whole: Any = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    with torch.no_grad():
        expected = whole(torch.tensor([tokens])).logits[0]
    assert (logits_of(loaded(smollm2, max_length=256), tokens) - expected).abs().max() < 1e-3


WAYS: dict[str, dict[str, Any]] = {
    "one after the other": {"max_sequences": 1},
    "all at once": {"max_sequences": 8},
    "prompts in chunks": {"max_sequences": 3, "max_batched_tokens": 5},
    "put back for want of blocks": {"max_sequences": 8, "kv_budget": KvBudget(112, "tokens")},
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_through_the_engine_changes_a_token(tiny_model: Path, way: str) -> None:
    tokens = generated(loaded(tiny_model, **WAYS[way]), Workload(WORDS, max_tokens=40))
    assert answers(tokens) == library_s(tiny_model, WORDS, 40)


def test_requests_are_put_back_and_their_prefix_is_found_again(tiny_model: Path) -> None:
    notes = Notes()
    engine = loaded(tiny_model, notes, max_sequences=8, kv_budget=KvBudget(112, "tokens"))
    generated(engine, Workload(WORDS, max_tokens=40))
    running = [step.requests for step in notes.steps]
    assert any(later < earlier for earlier, later in pairwise(running) if later)
    assert max(step.blocks for step in notes.steps) == 7
    assert engine._pool.held == 0


def test_a_prefix_in_the_cache_is_not_computed_again(tiny_model: Path) -> None:
    notes = Notes()
    engine = loaded(tiny_model, notes, max_sequences=1)
    first = answers(generated(engine, Workload((WORDS[-1],), max_tokens=8)))
    again = answers(generated(engine, Workload((WORDS[-1],), max_tokens=8), first=1))
    assert first == again
    prompt = len(WORDS[-1])
    prefills = [step.tokens for step in notes.steps if step.tokens > 1]
    assert prefills == [prompt, prompt - (prompt - 1) // 16 * 16]


def test_sampling_keeps_to_its_rules_and_its_seed_whatever_the_batch(tiny_model: Path) -> None:
    def asked(engine: ReferenceEngine, **rules: Any) -> list[list[int]]:
        return answers(generated(engine, Workload(WORDS, max_tokens=12, stop_at_end=False, **rules)))

    one, many = loaded(tiny_model, max_sequences=1), loaded(tiny_model, max_sequences=8)
    hot = asked(many, temperature=1.0, seed=1)
    assert hot == asked(one, temperature=1.0, seed=1)
    assert hot != asked(many, temperature=1.0, seed=2)
    greedy = asked(many)
    assert asked(many, temperature=1.0, top_k=1) == greedy
    assert asked(many, temperature=1.0, top_p=1e-6) == greedy
    assert asked(many, temperature=1.0, top_p=1e-60) == greedy
    assert asked(many, temperature=1e-60) == asked(many, temperature=1e-38) == greedy
    assert hot != greedy


def test_an_answer_ends_before_a_stop_text_even_one_of_several_tokens(tiny_model: Path) -> None:
    engine = loaded(tiny_model)
    [whole] = texts(generated(engine, Workload((WORDS[0],), max_tokens=30)))
    stop = whole[10:14]
    tokens = generated(engine, Workload((WORDS[0],), max_tokens=30, stop=("never", stop)))
    assert texts(tokens) == [whole[: whole.index(stop)]]
    assert tokens[-1].end == "stop"
    assert len(tokens) == whole.index(stop) + len(stop)


def test_signs_for_what_is_no_character_are_text_like_any_other(smollm2: Path) -> None:
    engine = loaded(smollm2, max_length=64)
    asked = Workload(("Repeat: ���",), max_tokens=12)
    tokens = generated(engine, asked)
    decode = AutoTokenizer.from_pretrained(smollm2).decode
    assert texts(tokens) == [decode([token.id for token in tokens])] == ["�" * 12]
    [*_, last] = stopped = generated(engine, dataclasses.replace(asked, max_tokens=2, stop=("�",)))
    assert (texts(stopped), last.end) == ([""], "stop")


def test_the_end_token_ends_an_answer_unless_it_shall_not(tiny_model: Path) -> None:
    engine = loaded(tiny_model)
    free = generated(engine, Workload(WORDS, max_tokens=100, stop_at_end=False))
    held = generated(engine, Workload(WORDS, max_tokens=100))
    for whole, cut in zip(answers(free), answers(held), strict=True):
        assert cut == (whole[: whole.index(0) + 1] if 0 in whole else whole)
    assert {token.end for token in held if token.end} <= {"stop", "length"}


def test_an_answer_ends_at_the_longest_length(tiny_model: Path) -> None:
    tokens = generated(loaded(tiny_model, max_length=20), Workload((WORDS[0],), max_tokens=100, stop_at_end=False))
    assert len(tokens) == 20 - len(WORDS[0])
    assert tokens[-1].end == "length"


def test_what_it_tells_its_probe(tiny_model: Path) -> None:
    notes = Notes()
    engine = loaded(tiny_model, notes, max_sequences=2)
    tokens = generated(engine, Workload(WORDS, max_tokens=9, stop_at_end=False), first=5)
    engine.close()
    engine.close()
    phases = ["load_weights", "kv_cache", "generate", "teardown"]
    assert notes.phases == [edge for phase in phases for edge in (phase, f"end of {phase}")]
    assert {("weights",), ("kv_cache",), ("activations",)} <= notes.tags
    assert notes.told == [(token.request, token.position, 1) for token in tokens]
    assert sorted(one["request"] for one in notes.requests) == [5, 6, 7, 8, 9]
    for one in notes.requests:
        assert one["arrived_ns"] <= one["started_ns"] < one["ended_ns"]
        assert (one["prompt_tokens"], one["answer_tokens"]) == (len(WORDS[one["request"] - 5]), 9)
    assert sum(step.tokens for step in notes.steps) == sum(map(len, WORDS)) + 5 * 8
    assert all(step.requests <= 2 and step.blocks <= step.all_blocks for step in notes.steps)


def test_what_a_probe_takes_to_begin_a_phase_is_no_time_in_the_queue(tiny_model: Path) -> None:
    notes = Notes()
    engine = loaded(tiny_model, notes, max_sequences=2)
    for first in (0, 5):
        generated(engine, Workload(WORDS, max_tokens=9, stop_at_end=False), first=first)
        of_these = [one for one in notes.requests if one["request"] >= first]
        [arrived] = {one["arrived_ns"] for one in of_these}
        assert arrived >= notes.began_ns
        waited = sorted(one["started_ns"] for one in of_these)
        assert waited[2] > sorted(one["ended_ns"] for one in of_these)[0], "there was no room for it before"


def test_a_generation_that_nobody_wants_any_more_leaves_the_engine_free(tiny_model: Path) -> None:
    notes = Notes()
    engine = loaded(tiny_model, notes, max_sequences=2)
    stream = engine.generate(Workload(WORDS, max_tokens=50, stop_at_end=False))
    assert sorted(token.request for _ in range(3) for token in next(stream)) == [0, 0, 0, 1, 1, 1]
    stream.close()  # type: ignore[attr-defined]
    assert [one["end"] for one in notes.requests] == ["cancelled"] * 5
    assert engine._pool.held == 0
    assert answers(generated(engine, Workload(WORDS, max_tokens=20))) == library_s(tiny_model, WORDS, 20)


def test_ten_thousand_prompts_wait_their_turn(tiny_model: Path) -> None:
    engine = loaded(tiny_model, max_sequences=64)
    letters = random.Random(0).choices("abcdefgh", k=10_000)
    tokens = generated(engine, Workload(tuple(letters), max_tokens=2, stop_at_end=False))
    by_letter = dict(zip(letters, answers(tokens), strict=True))
    assert len(tokens) == 20_000
    assert all(by_letter[letter] == answer for letter, answer in zip(letters, answers(tokens), strict=True))


@pytest.mark.parametrize(
    ("limits", "workload", "says"),
    [
        ({}, Workload(("a" * 128,)), "prompt 0 has 128 tokens and leaves no room for an answer within 128"),
        ({"max_length": 8}, Workload(("a", "a" * 9)), "prompt 1 has 9 tokens"),
        ({"kv_budget": KvBudget(32, "tokens")}, Workload(("a",), max_tokens=40), "holds 32: raise limits.kv_budget"),
    ],
)
def test_what_can_not_be_answered_is_refused_whole(
    tiny_model: Path, limits: dict[str, Any], workload: Workload, says: str
) -> None:
    engine = loaded(tiny_model, **limits)
    with pytest.raises(UsageError, match=says):
        generated(engine, workload)
    assert answers(generated(engine, Workload(("a",), max_tokens=4))) == library_s(tiny_model, ("a",), 4)


def test_without_a_budget_the_host_gives_no_more_than_requests_can_fill_or_than_is_much() -> None:
    def bytes_of(token: int, max_length: int, sequences: int = 8) -> int:
        limits = Limits(max_sequences=sequences)
        most = room_bytes(limits, max_length, token, torch.device("cpu"), reserve=0)
        return count_blocks(most, limits, token) * BLOCK_SIZE * token

    assert bytes_of(1 << 10, 512) == 8 * 512 << 10
    assert bytes_of(1 << 17, 1 << 15) == 4 << 30
    assert bytes_of(1 << 17, 40960) == 40960 << 17  # a single request needs more


def test_the_cache_takes_what_its_budget_says_to_a_block(smollm2: Path) -> None:
    engine = loaded(smollm2, kv_budget=KvBudget.parse("100MiB"), max_length=512)
    assert engine._runner is not None
    caches = engine._runner._caches  # type: ignore[attr-defined]
    block = 30 * 16 * 2 * 3 * 64 * 4
    assert caches.nbytes == (100 << 20) // block * block


def test_a_shape_without_weights_runs_with_random_ones(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    tokens = generated(loaded(tmp_path), Workload(("\n\t\a",), max_tokens=5, stop_at_end=False))
    again = generated(loaded(tmp_path), Workload(("\n\t\a",), max_tokens=5, stop_at_end=False))
    assert [token.id for token in tokens] == [token.id for token in again]
    assert texts(tokens) == [""]


def test_graphs_are_refused_where_there_is_no_gpu() -> None:
    config = EngineConfig().with_setting("graphs", "full")
    if torch.cuda.is_available():
        refuse(config)
    else:
        with pytest.raises(WorkbenchError, match="graphs 'full': CUDA graphs need a GPU"):
            refuse(config)
