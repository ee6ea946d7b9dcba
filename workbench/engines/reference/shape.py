"""The shape of a model, out of its config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.config.models import described
from workbench.errors import UsageError, short

FAMILIES = {"llama": False, "qwen3": True}  # by model_type: whether queries and keys are normed, head by head
ACTIVATIONS = ("silu", "swish")
SAVED = ("float32", "bfloat16", "float16")
MOST_POSITIONS = 1 << 24  # beyond any model, and each has its cosines in memory


@dataclass(frozen=True)
class Rotary:
    """How positions turn queries and keys."""

    theta: float
    kind: str = "default"  # default | linear | llama3
    factor: float = 1.0
    low: float = 0.0  # llama3: wavelengths above context/low are stretched by `factor`,
    high: float = 0.0  # those below context/high are not, and between them in part
    context: int = 0  # llama3: tokens of the first training


@dataclass(frozen=True)
class Shape:
    """All that decides how much memory a model takes and which operations it is made of."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    max_length: int  # tokens that the model was made for
    eps: float
    rotary: Rotary
    is_tied: bool  # whether the output layer is the embedding
    has_qk_norm: bool
    dtype: str
    ends: frozenset[int]  # tokens that end an answer

    @classmethod
    def read(cls, folder: Path) -> Shape:
        """Gives the shape of the model in a folder; refuses a family that this engine does not know."""
        config = described(folder)
        family, known = config.get("model_type"), list(FAMILIES)
        if family not in known:
            what = f"no model family {family!r}, only {', '.join(known)}"
            raise UsageError(f"{folder}: engine 'reference' has {what}; use 'vllm'")
        for name in ("attention_bias", "mlp_bias", "use_sliding_window", "quantization_config"):
            if config.get(name):
                raise UsageError(f"{folder}: engine 'reference' does not do {name}; use 'vllm'")
        if config.get("hidden_act", "silu") not in ACTIVATIONS:
            raise UsageError(
                f"{folder}: engine 'reference' does not do hidden_act {config['hidden_act']!r}; use 'vllm'"
            )
        try:
            return cls._of(config, FAMILIES[family], _ends(folder, config))
        except KeyError as error:
            raise UsageError(f"{folder / 'config.json'} has no {error}") from None
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise _impossible(folder / "config.json", str(error)) from None

    @classmethod
    def _of(cls, config: Mapping[str, Any], has_qk_norm: bool, ends: frozenset[int]) -> Shape:
        def size(name: str, default: int | None = None) -> int:
            given = config[name] if default is None else config.get(name)
            return default if default is not None and given is None else _whole(name, given)

        heads, hidden = size("num_attention_heads"), size("hidden_size")
        kv_heads, head_dim = size("num_key_value_heads", heads), size("head_dim", hidden // heads)
        if heads % kv_heads:
            raise ValueError(f"num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")
        if head_dim % 2 or not head_dim:
            raise ValueError(f"head_dim {head_dim} has no halves to turn")
        max_length = size("max_position_embeddings")
        if max_length > MOST_POSITIONS:
            raise ValueError(f"max_position_embeddings {max_length} is more than {MOST_POSITIONS}")
        return cls(
            layers=size("num_hidden_layers"),
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            intermediate=size("intermediate_size"),
            vocabulary=size("vocab_size"),
            max_length=max_length,
            eps=_above_zero("rms_norm_eps", config["rms_norm_eps"]),
            rotary=_rotary(config),
            is_tied=_truth("tie_word_embeddings", config.get("tie_word_embeddings")),
            has_qk_norm=has_qk_norm,
            dtype=_dtype(config),
            ends=ends,
        )

    def numbers(self) -> int:
        """Gives how many numbers the matrices hold, and so all weights but a few."""
        attention = 2 * (self.heads + self.kv_heads) * self.head_dim * self.hidden
        layer = attention + 3 * self.intermediate * self.hidden
        return self.layers * layer + self.vocabulary * self.hidden * (1 if self.is_tied else 2)

    def kv_bytes(self, itemsize: int) -> int:
        """Gives the bytes of one token's keys and values in all layers."""
        return self.layers * 2 * self.kv_heads * self.head_dim * itemsize


def _whole(name: str, given: Any) -> int:
    """A size: with one below 1 kernels would read memory that nobody wrote."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError(f"{name} {short(given)} is no whole number from 1 on")
    return int(given)


def _above_zero(name: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise ValueError(f"{name} {short(given)} is no number above 0")
    return float(given)


def _truth(name: str, given: Any) -> bool:
    if not isinstance(given, bool | None):
        raise ValueError(f"{name} {short(given)} is neither true nor false")
    return bool(given)


def _dtype(config: Mapping[str, Any]) -> str:
    """What the weights were saved in."""
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    if name not in SAVED:
        raise ValueError(f"dtype {name!r} is none of {', '.join(SAVED)}")
    return name


def _ends(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """The tokens that end an answer: what is said of generation comes before what is said of the model."""
    file = "generation_config.json"
    said = _tokens(folder / file, described(folder, file)) if (folder / file).is_file() else None
    of_model = _tokens(folder / "config.json", config)
    return (of_model or frozenset()) if said is None else said


def _tokens(file: Path, config: Mapping[str, Any]) -> frozenset[int] | None:
    if (given := config.get("eos_token_id")) is None:
        return None
    ends = given if isinstance(given, list) else [given]
    if not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
        raise _impossible(file, f"eos_token_id {short(given)} is no token's number, nor a list of them")
    return frozenset(ends)


def _impossible(file: Path, what: str) -> UsageError:
    return UsageError(f"{file} has a value that can not be: {what}; correct it, or get the model again")


def _rotary(config: Mapping[str, Any]) -> Rotary:
    """As transformers has it: what `rope_scaling` says stands in place of all of `rope_parameters`, the theta too."""
    written = [given for name in ("rope_scaling", "rope_parameters") if (given := config.get(name))]
    kinds = [_kind(given) for given in written]
    given, kind = (written[0], kinds[0]) if written else ({}, "default")
    if (part := given.get("partial_rotary_factor", config.get("partial_rotary_factor"))) not in (None, 1):
        raise UsageError(f"engine 'reference' does not do partial_rotary_factor {short(part)}; use 'vllm'")
    theta = _above_zero("rope_theta", given.get("rope_theta", config.get("rope_theta", 10000.0)))
    if kind == "default":
        return Rotary(theta)
    factor = _above_zero("rope factor", given["factor"])
    if kind == "linear":
        return Rotary(theta, kind, factor)
    low, high = (_above_zero(name, given[name]) for name in ("low_freq_factor", "high_freq_factor"))
    if low >= high:
        raise ValueError(f"low_freq_factor {low} and high_freq_factor {high} are not in order")
    name = "original_max_position_embeddings"  # in the config itself it comes before the one here
    context = config.get(name, given.get(name, config["max_position_embeddings"]))
    return Rotary(theta, kind, factor, low, high, _whole(name, context))


def _kind(given: Any) -> str:
    if not isinstance(given, Mapping):
        raise ValueError(f"{short(given)} is no mapping of rope_type and its numbers")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise UsageError(f"engine 'reference' does not do rope_type {short(kind)}; use 'vllm'")
    return str(kind)
