"""The operations of the model on the CPU, by our own kernels where they serve; the rest is as in `cpu`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from workbench.engines.reference.batch import Batch
from workbench.engines.reference.cpu import Prompt, attend_prompt, prompt_of
from workbench.engines.reference.cpu_matrices import prepared
from workbench.engines.reference.model import Linear, Turns
from workbench.engines.reference.weights import Layer
from workbench.kernels import on_cpu

SHORT = 1 << 14  # queries times keys; with more, torch's attention, which is one of matrices, is the faster one


@dataclass(frozen=True)
class KernelInputs:
    """A batch as the kernels take it: the tokens of short sequences one by one, then the others' prompt by prompt."""

    positions: torch.Tensor  # [T]
    slots: torch.Tensor  # [T]
    tables: torch.Tensor  # [tokens of short ones, blocks]
    lengths: torch.Tensor  # [tokens of short ones] that each of them sees, itself among them
    prompts: list[Prompt]


class CpuKernelOps:
    """See `model.Ops`."""

    def inputs(self, batch: Batch, turns: Turns, dtype: torch.dtype) -> KernelInputs:
        """Gives a batch as tensors."""
        counts = np.diff(batch.starts)
        is_long = counts * batch.lengths > SHORT
        short = int(is_long.argmax()) if is_long.any() else len(counts)
        positions = torch.from_numpy(batch.positions)
        return KernelInputs(
            positions=positions,
            slots=torch.from_numpy(batch.slots),
            tables=torch.from_numpy(np.repeat(batch.tables[:short], counts[:short], axis=0)),
            lengths=positions[: batch.starts[short]] + 1,
            prompts=[prompt_of(batch, index) for index in range(short, len(counts))],
        )

    def linear(self, matrix: torch.Tensor) -> Linear:
        return prepared(matrix)

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        normed: torch.Tensor = on_cpu.rms_norm(x, weight, eps)
        return normed

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        gated: torch.Tensor = on_cpu.silu_and_multiply(gate_up)
        return gated

    def rotate_and_store(
        self, qkv: torch.Tensor, layer: Layer, turns: Turns, cache: torch.Tensor, inputs: KernelInputs
    ) -> torch.Tensor:
        queries: torch.Tensor = on_cpu.rotate_and_store(
            qkv, inputs.positions, inputs.slots, turns.cos_sin, cache,
            layer.q_norm, layer.k_norm, turns.eps, turns.heads, turns.kv_heads,
        )  # fmt: skip
        return queries

    def attend(self, queries: torch.Tensor, cache: torch.Tensor, inputs: KernelInputs) -> torch.Tensor:
        short, scale = len(inputs.lengths), queries.shape[-1] ** -0.5
        found: torch.Tensor = on_cpu.attend_decode(queries[:short], cache, inputs.tables, inputs.lengths, scale)
        if inputs.prompts:
            prompts = [attend_prompt(queries[prompt.rows], cache, prompt) for prompt in inputs.prompts]
            found = torch.cat([found, *prompts])
        return found.view(len(queries), -1)
