"""The operations of the model on the CPU, in plain torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

from workbench.engines.reference.batch import Batch
from workbench.engines.reference.blocks import BLOCK_SIZE
from workbench.engines.reference.cpu_matrices import prepared
from workbench.engines.reference.model import Linear, Turns
from workbench.engines.reference.weights import Layer


@dataclass(frozen=True)
class Prompt:
    """A sequence with several tokens in the batch."""

    rows: slice
    slots: torch.Tensor  # [length] of all its tokens so far
    mask: torch.Tensor  # [rows, length] what each row may see


@dataclass(frozen=True)
class CpuInputs:
    """A batch as the CPU's attention takes it: single tokens together, prompts one by one."""

    slots: torch.Tensor  # [T]
    cos: torch.Tensor  # [T, 1, head_dim] of each token's position, once for each half of a head
    sin: torch.Tensor  # the same, negative for the first half
    singles: int
    seen: torch.Tensor  # [singles * length] slots
    mask: torch.Tensor | None  # [singles, 1, 1, length]; none: all of it is seen
    prompts: list[Prompt]


class CpuOps:
    """See `model.Ops`."""

    def inputs(self, batch: Batch, turns: Turns, dtype: torch.dtype) -> CpuInputs:
        """Gives a batch as tensors."""
        singles = batch.singles
        seen, mask = _seen_by_singles(batch)
        cos_sin = turns.cos_sin.index_select(0, torch.from_numpy(batch.positions)).to(dtype)[:, None]
        cos, sin = cos_sin.chunk(2, dim=-1)
        return CpuInputs(
            slots=torch.from_numpy(batch.slots),
            cos=torch.cat([cos, cos], dim=-1),
            sin=torch.cat([-sin, sin], dim=-1),
            singles=singles,
            seen=seen,
            mask=mask,
            prompts=[prompt_of(batch, index) for index in range(singles, len(batch.lengths))],
        )

    def linear(self, matrix: torch.Tensor) -> Linear:
        return prepared(matrix)

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        # Beside their negatives numbers have the mean 0: so torch's layer norm, one operation, is the norm that it has
        # no such operation for, and that would take four times as long in pieces.
        size = x.shape[-1]
        return F.layer_norm(torch.cat([x, -x], dim=-1), (2 * size,), eps=eps)[..., :size] * weight

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    def rotate_and_store(
        self, qkv: torch.Tensor, layer: Layer, turns: Turns, cache: torch.Tensor, inputs: CpuInputs
    ) -> torch.Tensor:
        heads, kv_heads = turns.heads, turns.kv_heads
        states = qkv.view(len(qkv), heads + 2 * kv_heads, -1)
        turned, values = states[:, : heads + kv_heads], states[:, heads + kv_heads :]
        if layer.q_norm is not None and layer.k_norm is not None:
            queries = self.norm(turned[:, :heads], layer.q_norm, turns.eps)
            keys = self.norm(turned[:, heads:], layer.k_norm, turns.eps)
            turned = torch.cat([queries, keys], dim=1)
        turned = _rotate(turned, inputs)
        cache.index_copy_(0, inputs.slots, torch.stack([turned[:, heads:], values], dim=1))
        return turned[:, :heads]

    def attend(self, queries: torch.Tensor, cache: torch.Tensor, inputs: CpuInputs) -> torch.Tensor:
        found = torch.empty_like(queries, memory_format=torch.contiguous_format)
        if inputs.singles:
            found[: inputs.singles] = _attend_singles(queries[: inputs.singles], cache, inputs)
        for prompt in inputs.prompts:
            found[prompt.rows] = attend_prompt(queries[prompt.rows], cache, prompt)
        return found.view(len(queries), -1)


def _rotate(x: torch.Tensor, inputs: CpuInputs) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * inputs.cos, torch.cat([second, first], dim=-1), inputs.sin)


def _seen_by_singles(batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
    lengths = torch.from_numpy(batch.lengths[: batch.singles])
    if not len(lengths):
        return lengths, None
    longest = int(lengths.max())
    tables = torch.from_numpy(batch.tables[: batch.singles, : -(-longest // BLOCK_SIZE)])
    slots = _slots(tables)[:, :longest].reshape(-1)
    if bool((lengths == longest).all()):
        return slots, None
    return slots, (torch.arange(longest) < lengths[:, None])[:, None, None]


def _slots(tables: torch.Tensor) -> torch.Tensor:
    """The slots of all tokens of blocks: [S, blocks] -> [S, tokens]."""
    return (tables[:, :, None] * BLOCK_SIZE + torch.arange(BLOCK_SIZE)).flatten(1)


def prompt_of(batch: Batch, index: int) -> Prompt:
    """Gives the sequence of that index, which has several tokens in the batch."""
    rows = slice(int(batch.starts[index]), int(batch.starts[index + 1]))
    length = int(batch.lengths[index])
    slots = _slots(torch.from_numpy(batch.tables[index : index + 1]))[0, :length]
    positions = torch.from_numpy(batch.positions[rows])
    return Prompt(rows, slots, torch.arange(length) <= positions[:, None])


def _attend_singles(queries: torch.Tensor, cache: torch.Tensor, inputs: CpuInputs) -> torch.Tensor:
    """The heads that share keys stand in the place of a sequence's tokens, so that no key is repeated for them."""
    count, heads, size = queries.shape
    seen = cache.index_select(0, inputs.seen).view(count, -1, *cache.shape[1:])  # [singles, length, 2, kv heads, size]
    keys, values = seen.permute(2, 0, 3, 1, 4)
    grouped = queries.reshape(count, keys.shape[1], -1, size)
    return F.scaled_dot_product_attention(grouped, keys, values, inputs.mask).reshape(count, heads, size)


def attend_prompt(queries: torch.Tensor, cache: torch.Tensor, prompt: Prompt) -> torch.Tensor:
    """Gives what a prompt's tokens find in the cache: [rows, heads, size]."""
    keys, values = cache.index_select(0, prompt.slots).permute(1, 2, 0, 3)[:, None]  # [1, kv heads, length, size] each
    found = F.scaled_dot_product_attention(queries.transpose(0, 1)[None], keys, values, prompt.mask, enable_gqa=True)
    return found[0].transpose(0, 1)
