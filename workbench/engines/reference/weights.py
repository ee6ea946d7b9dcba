"""A model's weights: read from safetensors, or random ones of its shape."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from workbench.config.models import has_weights
from workbench.engines.reference.shape import Shape
from workbench.errors import EngineError

SEED = 0  # of random weights
SPREAD = 0.02  # their standard deviation

Get = Callable[[str, tuple[int, ...]], torch.Tensor]
"""Gives a weight by its name in the checkpoint, of the shape that it must have."""


@dataclass
class Layer:
    """One block of the model; what goes through one multiplication lies in one matrix."""

    norm: torch.Tensor  # [H]
    qkv: torch.Tensor  # [(Hq + 2 Hkv) D, H]
    q_norm: torch.Tensor | None  # [D]
    k_norm: torch.Tensor | None  # [D]
    out: torch.Tensor  # [H, Hq D]
    mlp_norm: torch.Tensor  # [H]
    gate_up: torch.Tensor  # [2 I, H]
    down: torch.Tensor  # [H, I]


@dataclass
class Weights:
    """All of a model."""

    embedding: torch.Tensor  # [V, H]
    layers: list[Layer]
    norm: torch.Tensor  # [H]
    head: torch.Tensor  # [V, H]; the embedding itself where the two are tied


def load(folder: Path, shape: Shape, dtype: torch.dtype, device: torch.device) -> Weights:
    """Gives the weights in a folder, or random ones where it holds none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        if has_weights(folder):
            raise EngineError(f"{folder} has weights, but none as safetensors, which is all that this engine reads")
        return _collect(shape, _random(dtype, device))
    with ExitStack() as stack:
        try:
            opened = [stack.enter_context(safe_open(file, "pt", device=str(device))) for file in files]
            return _collect(shape, _stored(opened, folder, dtype))
        except (SafetensorError, OSError) as error:
            raise EngineError(f"the weights in {folder} can not be read: {error}") from None


def _stored(files: list[Any], folder: Path, dtype: torch.dtype) -> Get:
    where = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - it is no mapping

    def get(name: str, size: tuple[int, ...]) -> torch.Tensor:
        if name not in where:
            raise EngineError(f"{folder} has no weight {name!r}: a file of it is missing, or it is another model")
        weight: torch.Tensor = where[name].get_tensor(name)
        if tuple(weight.shape) != size:
            raise EngineError(
                f"{folder}: weight {name!r} is {tuple(weight.shape)}, but its config.json asks for {size}"
            )
        return weight.to(dtype, copy=weight.device.type == "cpu")  # else one weight keeps the whole file in memory

    return get


def _random(dtype: torch.dtype, device: torch.device) -> Get:
    random = torch.Generator(device).manual_seed(SEED)

    def get(name: str, size: tuple[int, ...]) -> torch.Tensor:
        if name.endswith("norm.weight"):
            return torch.ones(size, dtype=dtype, device=device)
        return torch.randn(size, dtype=dtype, device=device, generator=random) * SPREAD

    return get


def _collect(shape: Shape, get: Get) -> Weights:
    embedding = get("model.embed_tokens.weight", (shape.vocabulary, shape.hidden))
    return Weights(
        embedding=embedding,
        layers=[_layer(f"model.layers.{index}.", shape, get) for index in range(shape.layers)],
        norm=get("model.norm.weight", (shape.hidden,)),
        head=embedding if shape.is_tied else get("lm_head.weight", (shape.vocabulary, shape.hidden)),
    )


def _layer(prefix: str, shape: Shape, get: Get) -> Layer:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    hidden, inner = shape.hidden, shape.intermediate

    def matrix(*parts: tuple[str, int]) -> torch.Tensor:
        return torch.cat([get(f"{prefix}{name}_proj.weight", (rows, hidden)) for name, rows in parts])

    def head_norm(name: str) -> torch.Tensor | None:
        return get(f"{prefix}self_attn.{name}_norm.weight", (shape.head_dim,)) if shape.has_qk_norm else None

    return Layer(
        norm=get(f"{prefix}input_layernorm.weight", (hidden,)),
        qkv=matrix(("self_attn.q", queries), ("self_attn.k", keys), ("self_attn.v", keys)),
        q_norm=head_norm("q"),
        k_norm=head_norm("k"),
        out=get(f"{prefix}self_attn.o_proj.weight", (hidden, queries)),
        mlp_norm=get(f"{prefix}post_attention_layernorm.weight", (hidden,)),
        gate_up=matrix(("mlp.gate", inner), ("mlp.up", inner)),
        down=get(f"{prefix}mlp.down_proj.weight", (hidden, inner)),
    )
