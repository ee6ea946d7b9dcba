"""The operations of the model on the CPU, by our own kernels where they serve; the rest is as in `cpu`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from workbench.engines.reference.batch import Batch
from workbench.engines.reference.cpu import Prompt, attend_prompt, prepared, prompt_of
from workbench.engines.reference.model import Linear, Turns
from workbench.engines.reference.weights import Layer
from workbench.kernels import on_cpu


@dataclass(frozen=True)
class KernelInputs:
    """A batch as the kernels take it: single tokens together, prompts one by one."""

    positions: torch.Tensor  # [T]
    slots: torch.Tensor  # [T]
    tables: torch.Tensor  # [singles, blocks]
    lengths: torch.Tensor  # [singles]
    prompts: list[Prompt]


class CpuKernelOps:
    """See `model.Ops`."""

    def inputs(self, batch: Batch, turns: Turns, dtype: torch.dtype) -> KernelInputs:
        """Gives a batch as tensors."""
        singles = batch.singles
        return KernelInputs(
            positions=torch.from_numpy(batch.positions),
            slots=torch.from_numpy(batch.slots),
            tables=torch.from_numpy(batch.tables[:singles]).contiguous(),
            lengths=torch.from_numpy(batch.lengths[:singles]),
            prompts=[prompt_of(batch, index) for index in range(singles, len(batch.lengths))],
        )

    def linear(self, matrix: torch.Tensor) -> Linear:
        return prepared(matrix)

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return on_cpu.rms_norm(x, weight, eps)

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        return on_cpu.silu_and_multiply(gate_up)

    def rotate_and_store(
        self, qkv: torch.Tensor, layer: Layer, turns: Turns, cache: torch.Tensor, inputs: KernelInputs
    ) -> torch.Tensor:
        return on_cpu.rotate_and_store(
            qkv, inputs.positions, inputs.slots, turns.cos_sin, cache,
            layer.q_norm, layer.k_norm, turns.eps, turns.heads, turns.kv_heads,
        )  # fmt: skip

    def attend(self, queries: torch.Tensor, cache: torch.Tensor, inputs: KernelInputs) -> torch.Tensor:
        singles, scale = len(inputs.lengths), queries.shape[-1] ** -0.5
        if not inputs.prompts:
            return on_cpu.attend_decode(queries, cache, inputs.tables, inputs.lengths, scale).view(singles, -1)
        found = torch.empty_like(queries)
        found[:singles] = on_cpu.attend_decode(queries[:singles], cache, inputs.tables, inputs.lengths, scale)
        for prompt in inputs.prompts:
            found[prompt.rows] = attend_prompt(queries[prompt.rows], cache, prompt)
        return found.view(len(queries), -1)
