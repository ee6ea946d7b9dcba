"""The Llama family as a chain of operations: Llama itself, SmolLM, Qwen3.

    x = embedding
    for each layer:  x += out(attend(rotate(qkv(norm(x)))));  x += down(gate(gate_up(norm(x))))
    logits = head(norm(x))

The chain is cut at its attentions, so that what lies between two of them can be captured as a piece.
T tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch

from workbench.engines.reference.room import refuse_more_than_free
from workbench.engines.reference.shape import Shape
from workbench.engines.reference.weights import Layer, Weights


class Linear(Protocol):
    """A matrix that is ready to be multiplied with."""

    way: str  # what it is multiplied by: a kernel of ours, or a library

    def __call__(
        self, x: torch.Tensor, plus: torch.Tensor | None = None, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Gives x @ matrix.T, and adds `plus`; in `out`, where that is given."""


Inputs = TypeVar("Inputs", contravariant=True)


class Ops(Protocol[Inputs]):
    """The operations of the chain, as a kind of device does them; `Inputs` is what it makes of a batch."""

    def linear(self, matrix: torch.Tensor) -> Linear:
        """Makes a matrix ready, as it is or as a copy of its own."""

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """Gives the root-mean-square norm of every row."""

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """Gives silu(first half) * second half of every row."""

    def rotate_and_store(
        self, qkv: torch.Tensor, layer: Layer, turns: Turns, cache: torch.Tensor, inputs: Inputs
    ) -> torch.Tensor:
        """Turns queries and keys to their positions, puts keys and values in the cache, gives the queries."""

    def attend(self, queries: torch.Tensor, cache: torch.Tensor, inputs: Inputs) -> torch.Tensor:
        """Gives what the queries find in the cache: [T, heads, head_dim] -> [T, heads * head_dim]."""


@dataclass(frozen=True)
class Turns:
    """What `rotate_and_store` needs besides its tensors."""

    cos_sin: torch.Tensor  # [positions, head_dim]: cosines, then sines
    heads: int
    kv_heads: int
    eps: float


@dataclass
class Prepared:
    """A layer with its matrices made ready."""

    weights: Layer
    qkv: Linear
    out: Linear
    gate_up: Linear
    down: Linear


class Model(Generic[Inputs]):
    """Weights, and the operations to run them with."""

    def __init__(self, shape: Shape, weights: Weights, ops: Ops[Inputs], max_length: int) -> None:
        self.shape = shape
        self.ops = ops
        self._embedding, self._norm = weights.embedding, weights.norm
        self._head = ops.linear(weights.head)
        self._layers = [_prepared(layer, ops) for layer in weights.layers]
        self.turns = Turns(cos_sin(shape, max_length).to(weights.norm.device), shape.heads, shape.kv_heads, shape.eps)

    def forward(self, tokens: torch.Tensor, inputs: Inputs, caches: torch.Tensor) -> torch.Tensor:
        """Runs tokens through all layers: [T] -> [T, H], not yet normed; `caches` has one a layer."""
        x, queries = self.begin(tokens, inputs, caches)
        for index in range(self.shape.layers - 1):
            attended = self.ops.attend(queries, caches[index], inputs)
            x, queries = self.between(index, x, attended, inputs, caches)
        return self.finish(x, self.ops.attend(queries, caches[-1], inputs))

    def begin(self, tokens: torch.Tensor, inputs: Inputs, caches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives what comes before the first attention: the residual stream, and the first layer's queries."""
        x = self._embedding[tokens]
        return x, self._queries(0, x, inputs, caches)

    def between(
        self, index: int, x: torch.Tensor, attended: torch.Tensor, inputs: Inputs, caches: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives what comes between the attention of a layer and that of the next."""
        x = self._rest(index, x, attended)
        return x, self._queries(index + 1, x, inputs, caches)

    def finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Gives what comes after the last attention."""
        return self._rest(self.shape.layers - 1, x, attended)

    def logits(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Gives what the model says comes next: [T, H] -> [T, V]; in `out`, where that is given."""
        return self._head(self.ops.norm(x, self._norm, self.shape.eps), out=out)

    @property
    def ways(self) -> set[str]:
        """What the matrices are multiplied by."""
        parts = (part for layer in self._layers for part in (layer.qkv, layer.out, layer.gate_up, layer.down))
        return {self._head.way, *(part.way for part in parts)}

    def _queries(self, index: int, x: torch.Tensor, inputs: Inputs, caches: torch.Tensor) -> torch.Tensor:
        layer = self._layers[index]
        qkv = layer.qkv(self.ops.norm(x, layer.weights.norm, self.shape.eps))
        return self.ops.rotate_and_store(qkv, layer.weights, self.turns, caches[index], inputs)

    def _rest(self, index: int, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        layer = self._layers[index]
        x = layer.out(attended, x)
        inner = layer.gate_up(self.ops.norm(x, layer.weights.mlp_norm, self.shape.eps))
        return layer.down(self.ops.gate(inner), x)


def _prepared(layer: Layer, ops: Ops[Inputs]) -> Prepared:
    matrices = [ops.linear(matrix) for matrix in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    nothing = layer.norm.new_empty(0)
    layer.qkv = layer.out = layer.gate_up = layer.down = nothing  # only the ready ones stay in memory
    return Prepared(layer, *matrices)


def cos_sin(shape: Shape, max_length: int) -> torch.Tensor:
    """Gives the cosine and sine of every position's angles: [positions, head_dim], in float32."""
    whole, cpu = torch.float32.itemsize * max_length * shape.head_dim, torch.device("cpu")
    refuse_more_than_free(f"turning {max_length} positions", 2 * whole, cpu, "lower limits.max_length")
    angles = torch.outer(torch.arange(max_length, dtype=torch.float32), _frequencies(shape))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _frequencies(shape: Shape) -> torch.Tensor:
    """Radians a position: [head_dim / 2]."""
    rotary = shape.rotary
    frequencies = 1.0 / rotary.theta ** (torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim)
    if rotary.kind == "linear":
        return frequencies / rotary.factor
    if rotary.kind == "llama3":
        turns = rotary.context * frequencies / (2 * torch.pi)  # in the first training's context
        kept = ((turns - rotary.low) / (rotary.high - rotary.low)).clamp(0, 1)
        return frequencies * (kept + (1 - kept) / rotary.factor)
    return frequencies
