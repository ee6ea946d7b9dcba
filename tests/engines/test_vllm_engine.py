"""vLLM, driven by the workbench: its answers are its own, and all that it does is reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.probes import Notes, generated
from tests.vllm_alone import reporting_to
from workbench.config import EngineConfig, KvBudget, Limits, NoGraphs, Workload
from workbench.config.models import resolve
from workbench.engines.base import Token
from workbench.engines.reference.engine import ReferenceEngine
from workbench.engines.vllm.engine import VllmEngine
from workbench.errors import EngineError, UsageError
from workbench.recorder import recorder
from workbench.recorder.probe import NullProbe

pytest.importorskip("vllm")

MAX_LENGTH = 256
SEQUENCES = 16
BUDGET = KvBudget.parse("100MiB")
CONFIG = EngineConfig(
    engine="vllm",
    dtype="float32",
    limits=Limits(max_sequences=SEQUENCES, max_length=MAX_LENGTH, kv_budget=BUDGET),
    graphs=NoGraphs(),
)
TOPICS = ["the sea", "a lost key", "tea", "Mars", "a clock", "rain", "chess", "a bridge", "bees", "gold"]
PROMPTS = tuple(f"{start} {topic}" for topic in TOPICS for start in ("Here is a story about", "What I know of"))

loading = Notes()


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    with reporting_to(loading):
        loaded = VllmEngine()
        loaded.load(CONFIG, loading)
        yield loaded
        loaded.close()


@pytest.fixture
def told(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> Notes:
    """What is reported from now on."""
    notes = Notes()
    monkeypatch.setattr(engine, "_probe", notes)
    monkeypatch.setattr(recorder, "_current", notes)
    return notes


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(resolve("smollm2"), dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve("smollm2"))


def blocks_in_use(engine: VllmEngine) -> int:
    pool = engine._engine.engine_core.engine_core.scheduler.kv_cache_manager.block_pool
    return int(pool.num_gpu_blocks - pool.get_num_free_blocks())


def by_request(tokens: list[Token]) -> list[list[Token]]:
    answers: defaultdict[int, list[Token]] = defaultdict(list)
    for token in tokens:
        answers[token.request].append(token)
    return [answers[request] for request in sorted(answers)]


def ids(answer: list[Token]) -> list[int]:
    return [token.id for token in answer]


def text(answer: list[Token]) -> str:
    return "".join(token.text for token in answer)


def test_both_engines_answer_alike(engine: VllmEngine, told: Notes) -> None:
    workload = Workload(PROMPTS, max_tokens=64)
    other = ReferenceEngine()
    other.load(replace(CONFIG, engine="reference"), NullProbe())
    mine, theirs = (by_request(generated(one, workload)) for one in (other, engine))
    other.close()
    assert [ids(answer) for answer in mine] == [ids(answer) for answer in theirs]
    assert ["".join(token.text for token in answer) for answer in mine] == [
        "".join(token.text for token in answer) for answer in theirs
    ]


def test_what_loading_reports(engine: VllmEngine) -> None:
    steps = ["init_device", "load_weights", "profile", "kv_cache", "capture"]
    assert loading.phases[:10] == [name for step in steps for name in (step, f"end of {step}")]
    assert {("weights",), ("kv_cache",), ("graphs",)} <= loading.tags


def test_it_says_what_really_runs(engine: VllmEngine) -> None:
    facts = engine.what_runs()
    assert facts.keys() == {
        *("vllm", "runner", "attention", "graphs", "device"),
        *("kv_room_bytes", "kv_cache_bytes", "block_size", "blocks", "kv_cache_tokens"),
    }
    assert facts["vllm"].startswith("0.")
    assert (facts["runner"], facts["attention"], facts["device"]) == ("V1 CPUModelRunner", "CPU_ATTN", "cpu")
    assert facts["graphs"] == "none"


def test_the_kv_cache_takes_what_it_was_given_to_a_block(engine: VllmEngine) -> None:
    facts = engine.what_runs()
    block = facts["block_size"] * 30 * 2 * 3 * 64 * 4  # layers, keys and values, heads, their size, float32
    assert facts["kv_cache_bytes"] == facts["blocks"] * block
    assert BUDGET.amount - block < facts["kv_cache_bytes"] <= BUDGET.amount == facts["kv_room_bytes"]


def test_greedy_answers_are_those_of_transformers(engine: VllmEngine, model: Any, tokenizer: Any) -> None:
    """Each token is the likeliest after all before it: by induction, the answer that transformers gives."""
    import torch

    answers = by_request(generated(engine, Workload(PROMPTS, max_tokens=64)))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        start = tokenizer.encode(prompt)
        with torch.inference_mode():
            logits = model(torch.tensor([start + ids(answer)])).logits[0]
        assert ids(answer) == logits[len(start) - 1 : -1].argmax(-1).tolist()
        assert len(answer) == 64 or answer[-1].id == tokenizer.eos_token_id
        assert text(answer) == tokenizer.decode(ids(answer), skip_special_tokens=True)


def test_an_answer_does_not_depend_on_its_company(engine: VllmEngine) -> None:
    together = by_request(generated(engine, Workload(PROMPTS[:4], max_tokens=12)))
    alone = [by_request(generated(engine, Workload((prompt,), max_tokens=12)))[0] for prompt in PROMPTS[:4]]
    assert [ids(answer) for answer in together] == [ids(answer) for answer in alone]


def test_what_a_workload_reports(engine: VllmEngine, told: Notes) -> None:
    answers = by_request(generated(engine, Workload(PROMPTS, max_tokens=3, stop_at_end=False), first=30))
    assert told.phases == ["generate", "end of generate"]
    assert told.tags == {("activations",)}
    assert sorted(told.told) == [(request, position, 1) for request in range(30, 50) for position in range(3)]
    assert sorted(request["request"] for request in told.requests) == list(range(30, 50))
    assert len({request["arrived_ns"] for request in told.requests}) == 1
    for request in told.requests:  # what the probe takes to begin the phase is no time in the queue
        assert told.began_ns <= request["arrived_ns"] <= request["started_ns"] < request["ended_ns"]
        assert (request["answer_tokens"], request["end"]) == (3, "length")
    assert [[token.position for token in answer] for answer in answers] == [[0, 1, 2]] * 20
    assert [[token.end for token in answer] for answer in answers] == [[None, None, "length"]] * 20


def test_what_steps_report(engine: VllmEngine, told: Notes) -> None:
    prompts = tuple(f"{number}: {prompt}" for number, prompt in enumerate(PROMPTS))
    generated(engine, Workload(prompts, max_tokens=3, stop_at_end=False))
    through_the_model = sum(request["prompt_tokens"] + 2 for request in told.requests)  # the last token is not read
    assert sum(step.tokens for step in told.steps) == through_the_model
    assert max(step.requests for step in told.steps) == SEQUENCES
    assert told.steps[0].waiting == len(prompts) - SEQUENCES
    assert told.steps[-1].waiting == 0
    assert told.steps[0].blocks == 1 + SEQUENCES  # the first is vLLM's own
    assert {step.all_blocks for step in told.steps} == {engine.what_runs()["blocks"]}
    ends = [time for step in told.steps for time in (step.start_ns, step.end_ns)]
    assert ends == sorted(ends)


def test_closed_early_it_lets_go_of_everything(engine: VllmEngine, told: Notes) -> None:
    workload = Workload(PROMPTS, max_tokens=100)
    tokens = engine.generate(workload)
    some = [*next(tokens), *next(tokens)]
    tokens.close()  # type: ignore[attr-defined]
    assert {request["end"] for request in told.requests} == {"cancelled"}
    assert len(told.requests) == len(PROMPTS)
    assert sum(request["started_ns"] is not None for request in told.requests) == SEQUENCES
    again = by_request(generated(engine, Workload(PROMPTS[:2], max_tokens=2)))
    assert [answer[0].id for answer in again] == [token.ids[0] for token in some[:2]]
    assert told.steps[-1].blocks == 1 + len(again)  # one each, and the one that vLLM keeps for itself
    assert blocks_in_use(engine) == 1


def test_answers_that_are_told_at_their_end_are_the_same(engine: VllmEngine, told: Notes) -> None:
    workload = Workload(PROMPTS, max_tokens=20)
    streamed = by_request(generated(engine, workload))
    numbers = {request["request"]: request for request in told.requests}
    told.told.clear()
    together = by_request(generated(engine, workload, first=100, stream=False))
    assert [ids(answer) for answer in together] == [ids(answer) for answer in streamed]
    for one, answer in enumerate(together):
        assert "".join(token.text for token in answer) == "".join(token.text for token in streamed[one])
        assert [(position, count) for number, position, count in told.told if number == 100 + one] == (
            [(0, 1), (1, len(answer) - 1)] if len(answer) > 1 else [(0, 1)]
        )
    assert [request["answer_tokens"] for request in told.requests if request["request"] >= 100] == [
        numbers[request["request"] - 100]["answer_tokens"] for request in told.requests if request["request"] >= 100
    ]


def test_who_waits_for_whole_answers_can_cancel_meanwhile(engine: VllmEngine, told: Notes) -> None:
    answers = engine.generate(Workload(PROMPTS[:SEQUENCES], max_tokens=200, stop_at_end=False), stream=False)
    assert [next(answers) for _ in range(3)] == [[]] * 3  # before the two hundredth step
    answers.close()  # type: ignore[attr-defined]
    assert blocks_in_use(engine) == 1
    assert sorted(told.told)[::2] == [(request, 0, 1) for request in range(SEQUENCES)]  # as soon as a prompt was read
    for request in told.requests:  # what vLLM had computed and not told of
        counts = [count for number, _, count in told.told if number == request["request"]]
        assert (sum(counts), request["end"]) == (request["answer_tokens"], "cancelled")
        assert request["answer_tokens"] > 1


def test_one_workload_at_a_time(engine: VllmEngine) -> None:
    tokens = engine.generate(Workload(PROMPTS[:1]))
    next(tokens)
    with pytest.raises(UsageError, match="is answering a workload"):
        generated(engine, Workload(PROMPTS[:1]))
    tokens.close()  # type: ignore[attr-defined]


def test_a_stop_text_ends_an_answer_and_is_not_in_it(engine: VllmEngine) -> None:
    (whole,) = by_request(generated(engine, Workload(("Once upon a time",), max_tokens=20)))
    stop = text(whole[6:9])[1:]  # begins inside a token
    (answer,) = by_request(generated(engine, Workload(("Once upon a time",), max_tokens=20, stop=("nowhere", stop))))
    assert ids(answer) == ids(whole)[:9]
    assert text(answer) == text(whole)[: text(whole).index(stop)]
    assert answer[-1].end == "stop"


def test_an_answer_ends_where_the_model_does(engine: VllmEngine, told: Notes) -> None:
    (answer,) = by_request(generated(engine, Workload(("a" + " a" * 244,), max_tokens=1000, stop_at_end=False)))
    assert answer[-1].end == "length"
    assert told.requests[0]["prompt_tokens"] + len(answer) == MAX_LENGTH


@pytest.mark.parametrize("tokens", [MAX_LENGTH, 1000])
def test_a_prompt_without_room_for_an_answer_is_refused(engine: VllmEngine, told: Notes, tokens: int) -> None:
    prompts = ("fine", "a" + " a" * (tokens - 1))
    with pytest.raises(UsageError, match=rf"^prompt 1 has {tokens} tokens .* within {MAX_LENGTH}: .*$"):
        generated(engine, Workload(prompts))
    assert not told.phases


def test_a_request_that_can_never_have_room_is_refused(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every vLLM refuses such a length when it starts; it would then try for ever."""
    monkeypatch.setattr(engine._core, "blocks", 2)
    with pytest.raises(UsageError, match=r"^prompt 0 and its answer may take 201 tokens, .* budget holds 128: "):
        generated(engine, Workload(("a",), max_tokens=200))


def test_a_prompt_that_vllm_refuses_takes_the_others_with_it(
    engine: VllmEngine, told: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = engine._engine.add_request

    def add_some(name: str, *given: Any) -> None:
        if name == "1":
            raise ValueError("Not this one.")
        add(name, *given)

    monkeypatch.setattr(engine._engine, "add_request", add_some)
    with pytest.raises(EngineError, match=r"^vLLM failed to take the prompts: Not this one$"):
        generated(engine, Workload(PROMPTS[:2]))
    assert [request["end"] for request in told.requests] == ["cancelled", "cancelled"]
    assert len(generated(engine, Workload(PROMPTS[:1], max_tokens=1))) == 1


def test_a_step_that_fails_ends_the_answers(engine: VllmEngine, told: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 3.00 GiB.\nAnd more.")

    tokens = engine.generate(Workload(PROMPTS[:2]))
    next(tokens)
    with monkeypatch.context() as patch:
        patch.setattr(engine._engine, "step", fail)
        with pytest.raises(EngineError, match=r"^vLLM failed in a step: CUDA out of memory; lower limits.kv_budget"):
            list(tokens)
    assert [(request["answer_tokens"], request["end"]) for request in told.requests] == [(1, "cancelled")] * 2
    engine._engine.abort_request(["0", "1"])  # what is left of it: a real failure would be vLLM's end


def test_what_vllm_alone_does_not_take_is_refused_at_once(engine: VllmEngine, told: Notes) -> None:
    with pytest.raises(UsageError, match=r"^vLLM takes no such workload: temperature must be in \[0, 2\], got 2.5$"):
        engine.generate(Workload(("Once",), temperature=2.5))
    assert told.phases == []
    assert len(generated(engine, Workload(("Once",), max_tokens=2, temperature=2.0, stop_at_end=False))) == 2


def test_seeds(engine: VllmEngine) -> None:
    def sampled(seed: int) -> list[list[int]]:
        workload = Workload(("Once upon",) * 2, max_tokens=6, temperature=1.0, top_k=50, top_p=0.95, seed=seed)
        return [ids(answer) for answer in by_request(generated(engine, workload))]

    first = sampled(1)
    assert sampled(1) == first
    assert sampled(2) != first
    assert first[0] != first[1]


def test_many_prompts_wait_for_their_turn(engine: VllmEngine, told: Notes) -> None:
    tokens = engine.generate(Workload(("Hello",) * 10_000, max_tokens=1))
    next(tokens)
    tokens.close()  # type: ignore[attr-defined]
    assert told.steps[0].waiting == 10_000 - SEQUENCES
    assert len(told.requests) == 10_000


def test_a_failure_after_the_last_answer_is_told_in_one_line(
    engine: VllmEngine, told: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nAnd more.")

    tokens = engine.generate(Workload(PROMPTS[:2]))
    next(tokens)
    with monkeypatch.context() as patch:
        patch.setattr(engine._core, "_queue", [None])  # a batch that was launched ahead
        patch.setattr(engine._engine, "step", fail)
        with pytest.raises(EngineError, match=r"^vLLM failed in its last steps: CUDA error: an illegal memory access"):
            tokens.close()  # type: ignore[attr-defined]
    assert [request["end"] for request in told.requests] == ["cancelled"] * 2


def test_an_engine_that_is_not_loaded_says_so() -> None:
    engine = VllmEngine()
    with pytest.raises(EngineError, match="not loaded"):
        generated(engine, Workload(("Hello",)))
    engine.close()
