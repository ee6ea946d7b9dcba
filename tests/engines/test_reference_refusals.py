"""The reference engine refuses what it can make nothing of, in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.probes import generated
from tests.reference import loaded
from workbench.config import EngineConfig, KvBudget, Workload
from workbench.engines import model_folder
from workbench.engines.reference import room
from workbench.engines.reference.model import cos_sin
from workbench.engines.reference.shape import Shape
from workbench.errors import UsageError, WorkbenchError


def damaged(model: Path, folder: Path, what: str) -> Path:
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights, config = folder / "model.safetensors", folder / "config.json"
    if what == "cut off":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "missing":
        weights.unlink()
        (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"model.norm.weight": "model-1.safetensors"}}'
        )
    elif what == "an empty index":
        weights.rename(folder / "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text("{}")
    elif what == "no weights in the file":
        save_file({}, weights)
    elif what == "another format":
        weights.rename(folder / "pytorch_model.bin")
    elif what in CHANGES:
        config.write_text(json.dumps(json.loads(config.read_text()) | CHANGES[what]))
    elif what in TEXTS:
        config.write_text(TEXTS[what])
    elif what == "scaled weights":
        stored = load_file(weights)
        save_file({name: weight.to(torch.float8_e4m3fn) for name, weight in stored.items()}, weights)
    return folder


TEXTS = {"no JSON": "{", "a list": "[]"}
CHANGES: dict[str, dict[str, Any]] = {
    "another shape": {"hidden_size": 64},
    "another family": {"model_type": "mamba"},
    "a list for a family": {"model_type": ["llama"]},
    "a word for a number": {"num_hidden_layers": "many"},
    "no heads": {"num_attention_heads": 0, "head_dim": None},
    "another dtype": {"dtype": "float7"},
    "quantized": {"quantization_config": {"quant_method": "fp8"}},
}


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("cut off", "the weights in .*model.safetensors can not be read: .*; get the model again"),
        ("missing", "the weights in .*model-1.safetensors can not be read: .*; get the model again"),
        ("an empty index", "index.json does not say which file a weight is in: get the model again"),
        ("no weights in the file", "has no weight 'model.embed_tokens.weight': a file of it is missing"),
        ("a list", "config.json is no mapping of names to values"),
        ("a word for a number", "config.json has a value that can not be: num_hidden_layers 'many'"),
        ("no heads", "config.json has a value that can not be: num_attention_heads 0 is no whole number from 1 on"),
        ("another dtype", "config.json has a value that can not be: dtype 'float7' is none of"),
        ("quantized", "does not do quantization_config; use 'vllm'"),
        ("scaled weights", "does not do weights in torch.float8_e4m3fn; use 'vllm'"),
        ("another format", "has weights, but none as safetensors"),
        ("another shape", "weight 'model.embed_tokens.weight' is"),
        ("another family", "has no model family 'mamba', only llama, qwen3; use 'vllm'"),
        ("a list for a family", "has no model family .'llama'., only llama, qwen3"),
        ("no JSON", "config.json can not be read"),
    ],
)
def test_a_damaged_model_is_named_in_one_line(tiny_model: Path, tmp_path: Path, what: str, says: str) -> None:
    with pytest.raises(WorkbenchError, match=says) as caught:
        loaded(damaged(tiny_model, tmp_path, what))
    assert "\n" not in str(caught.value)


GROUPED = {"num_attention_heads": 6, "num_key_value_heads": 4, "head_dim": 16}
BENT = {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}
LINEAR = {"rope_type": "linear", "factor": 2.0}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (GROUPED, "num_attention_heads 6 is no multiple of num_key_value_heads 4"),
        ({"num_attention_heads": 4, "num_key_value_heads": 8}, "4 is no multiple of num_key_value_heads 8"),
        ({"num_key_value_heads": 0}, "num_key_value_heads 0 is no whole number from 1 on"),
        ({"head_dim": 15}, "head_dim 15 has no halves to turn"),
        ({"hidden_size": 1, "head_dim": None}, "head_dim 0 has no halves to turn"),
        ({"num_hidden_layers": 0}, "num_hidden_layers 0 is no whole number from 1 on"),
        ({"num_hidden_layers": 2.7}, "num_hidden_layers 2.7 is no whole number from 1 on"),
        ({"hidden_size": -64}, "hidden_size -64 is no whole number from 1 on"),
        ({"vocab_size": True}, "vocab_size True is no whole number from 1 on"),
        ({"max_position_embeddings": 10**9}, "max_position_embeddings 1000000000 is more than 16777216"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps -1.0 is no number above 0"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps nan is no number above 0"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings 'false' is neither true nor false"),
        ({"eos_token_id": "x"}, "eos_token_id 'x' is no token's number, nor a list of them"),
        ({"eos_token_id": [[1]]}, r"eos_token_id \[\[1\]\] is no token's number, nor a list of them"),
        ({"eos_token_id": True}, "eos_token_id True is no token's number, nor a list of them"),
        ({"rope_parameters": {"rope_theta": 0.0}}, "rope_theta 0.0 is no number above 0"),
        ({"rope_parameters": {"rope_type": "linear", "factor": -2.0}}, "rope factor -2.0 is no number above 0"),
        ({"rope_parameters": BENT}, "low_freq_factor 4.0 and high_freq_factor 4.0 are not in order"),
        ({"rope_scaling": LINEAR | {"factor": "2"}}, "rope factor '2' is no number above 0"),
        ({"rope_scaling": LINEAR | {"factor": True}}, "rope factor True is no number above 0"),
        ({"rope_scaling": BENT | {"low_freq_factor": "1"}}, "low_freq_factor '1' is no number above 0"),
        ({"rope_scaling": ["linear"]}, r"\['linear'\] is no mapping of rope_type and its numbers"),
    ],
    ids=str,
)
def test_a_shape_that_no_model_can_have_is_refused(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    """Else its answers would come from memory that nobody wrote."""
    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(UsageError, match=rf"a value that can not be: .*{says}; correct it, or get the model again$"):
        model_folder(EngineConfig(model=str(tmp_path)))


def test_an_end_that_is_no_token_is_refused_where_it_is_written(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [0, "x"]}')
    says = r"generation_config\.json has a value that can not be: eos_token_id \[0, 'x'\] is no token's number"
    with pytest.raises(UsageError, match=says):
        Shape.read(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 1}')
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": "x"}))
    with pytest.raises(UsageError, match=r"/config\.json has a value that can not be: eos_token_id 'x' is no token's"):
        Shape.read(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    for said, ends in (("[3, 4]", {3, 4}), ("5", {5}), ("null", {0})):
        (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": {said}}}')
        assert Shape.read(tmp_path).ends == ends


YARN, DYNAMIC = {"rope_type": "yarn", "factor": 2.0}, {"type": "dynamic", "factor": 2.0}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rope_parameters": YARN}, "does not do rope_type 'yarn'; use 'vllm'$"),
        ({"rope_scaling": DYNAMIC}, "does not do rope_type 'dynamic'; use 'vllm'$"),
        ({"rope_parameters": YARN, "rope_scaling": LINEAR}, "does not do rope_type 'yarn'; use 'vllm'$"),
        ({"rope_scaling": {"rope_type": ["linear"]}}, r"does not do rope_type \['linear'\]; use 'vllm'$"),
        ({"rope_scaling": LINEAR, "partial_rotary_factor": 0.5}, "does not do partial_rotary_factor 0.5; use 'vllm'$"),
        ({"rope_scaling": {"type": "linear"}}, r"config\.json has no 'factor'$"),
        ({"rope_scaling": {"type": "llama3", "factor": 2.0}}, r"config\.json has no 'low_freq_factor'$"),
    ],
    ids=str,
)
def test_a_way_of_turning_that_this_engine_does_not_know_is_refused(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(UsageError, match=says):
        model_folder(EngineConfig(model=str(tmp_path)))


def test_a_prompt_of_tokens_that_the_model_does_not_know_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    engine = loaded(tmp_path)
    with pytest.raises(UsageError, match="prompt 1 has the token 100, and the model's vocabulary ends before 100: "):
        generated(engine, Workload(("c", "cad"), max_tokens=2))
    assert len(generated(engine, Workload(("c",), max_tokens=2, stop_at_end=False))) == 2


@pytest.mark.parametrize("budget", ["9223372036854775807 tokens", "9223372036854775807 B", "100TiB"])
def test_a_budget_that_is_not_there_is_refused_in_one_line(tiny_model: Path, budget: str) -> None:
    with pytest.raises(UsageError, match=r"^the KV budget .* takes .* TiB, and .* are free: lower limits.kv_budget$"):
        loaded(tiny_model, kv_budget=KvBudget.parse(budget))


def test_a_model_that_no_memory_holds_is_refused_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 10**12}))
    with pytest.raises(UsageError, match=r": a model of this shape takes .* TiB, and .* are free: take a smaller one$"):
        loaded(tmp_path)


def test_positions_that_no_memory_holds_are_refused_in_one_line(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape.read(tiny_model)
    monkeypatch.setattr(room, "free_bytes", lambda device: 1000)
    with pytest.raises(UsageError, match=r"^turning 4000 positions takes .*: lower limits.max_length$"):
        cos_sin(shape, 4000)


def test_a_model_s_matrices_are_counted(tiny_model: Path) -> None:
    shape = Shape.read(tiny_model)
    stored = load_file(tiny_model / "model.safetensors").values()
    assert shape.numbers() == sum(weight.numel() for weight in stored if weight.dim() == 2)
