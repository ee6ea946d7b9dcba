"""A model's weights: read from safetensors, or random ones of its shape."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError

from workbench.engines.reference.room import refuse_more_than_free
from workbench.engines.reference.shape import Shape
from workbench.engines.reference.stored import Stored, stored
from workbench.errors import EngineError

SEED = 0  # of random weights
SPREAD = 0.02  # their standard deviation
ALIGNED = 256  # bytes; every weight begins at a multiple, as cuBLAS likes it
MOST = 1 << 50  # numbers of a model, to count them
DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # that need no scales beside them

Size = tuple[int, ...]
Place = Callable[[Size], torch.Tensor]
"""Gives room for a weight."""
Fill = Callable[[str, torch.Tensor], None]
"""Writes the weight of a name in the checkpoint into its room."""


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
    needed = shape.numbers() * dtype.itemsize
    refuse_more_than_free(f"{folder}: a model of this shape", needed, device, "take a smaller one")
    with ExitStack() as stack:
        found = stored(folder, stack)
        fill = _random(device) if found is None else _stored(found, folder)
        return _collect(shape, _place(shape, dtype, device), fill)


class OnePiece:
    """Room for all weights side by side in one piece of memory."""

    def __init__(self, memory: torch.Tensor) -> None:
        self._memory = memory
        self.taken = 0  # numbers

    def __call__(self, size: Size) -> torch.Tensor:
        start, count = self.taken, prod(size)
        step = ALIGNED // self._memory.itemsize
        self.taken += -(-count // step) * step
        return self._memory[start : start + count].view(size)


def _place(shape: Shape, dtype: torch.dtype, device: torch.device) -> Place:
    """On a GPU torch's allocator would leave room unused beside every few weights, so there they lie in one piece.

    On a CPU each has its own, since a matrix may be given back once it is packed.
    """
    if device.type == "cpu":
        return lambda size: torch.empty(size, dtype=dtype)
    counted = OnePiece(torch.empty(MOST, dtype=dtype, device="meta"))
    _collect(shape, counted, lambda *_: None)
    return OnePiece(torch.empty(counted.taken, dtype=dtype, device=device))


def _stored(where: Stored, folder: Path) -> Fill:
    def fill(name: str, room: torch.Tensor) -> None:
        if name not in where:
            raise EngineError(f"{folder} has no weight {name!r}: a file of it is missing, or it is another model")
        try:
            weight: torch.Tensor = where[name].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise EngineError(f"weight {name!r} in {folder} can not be read: {error}; get the model again") from None
        if weight.shape != room.shape:
            found, asked = tuple(weight.shape), tuple(room.shape)
            raise EngineError(f"{folder}: weight {name!r} is {found}, but its config.json asks for {asked}")
        if weight.dtype not in DTYPES:
            raise EngineError(f"{folder}: engine 'reference' does not do weights in {weight.dtype}; use 'vllm'")
        room.copy_(weight)

    return fill


def _random(device: torch.device) -> Fill:
    random = torch.Generator(device).manual_seed(SEED)

    def fill(name: str, room: torch.Tensor) -> None:
        if name.endswith("norm.weight"):
            room.fill_(1)
        else:
            room.normal_(std=SPREAD, generator=random)

    return fill


def _collect(shape: Shape, place: Place, fill: Fill) -> Weights:
    def weight(name: str, *size: int) -> torch.Tensor:
        room = place(size)
        fill(f"{name}.weight", room)
        return room

    embedding = weight("model.embed_tokens", shape.vocabulary, shape.hidden)
    return Weights(
        embedding=embedding,
        layers=[_layer(f"model.layers.{index}.", shape, place, fill) for index in range(shape.layers)],
        norm=weight("model.norm", shape.hidden),
        head=embedding if shape.is_tied else weight("lm_head", shape.vocabulary, shape.hidden),
    )


def _layer(prefix: str, shape: Shape, place: Place, fill: Fill) -> Layer:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    hidden, inner = shape.hidden, shape.intermediate

    def weight(name: str, *size: int) -> torch.Tensor:
        return matrix((name, size[0]), others=size[1:])

    def matrix(*parts: tuple[str, int], others: Size = (hidden,)) -> torch.Tensor:
        rows = [count for _, count in parts]
        whole = place((sum(rows), *others))
        for (name, _), part in zip(parts, torch.split(whole, rows), strict=True):
            fill(f"{prefix}{name}.weight", part)
        return whole

    return Layer(
        norm=weight("input_layernorm", hidden),
        qkv=matrix(("self_attn.q_proj", queries), ("self_attn.k_proj", keys), ("self_attn.v_proj", keys)),
        q_norm=weight("self_attn.q_norm", shape.head_dim) if shape.has_qk_norm else None,
        k_norm=weight("self_attn.k_norm", shape.head_dim) if shape.has_qk_norm else None,
        out=weight("self_attn.o_proj", hidden, queries),
        mlp_norm=weight("post_attention_layernorm", hidden),
        gate_up=matrix(("mlp.gate_proj", inner), ("mlp.up_proj", inner)),
        down=weight("mlp.down_proj", hidden, inner),
    )
