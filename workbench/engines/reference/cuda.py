"""The operations of the model on a CUDA device: cuBLAS, and the Triton kernels in `kernels/`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from workbench.engines.reference.batch import Batch
from workbench.engines.reference.model import Linear, Turns
from workbench.engines.reference.weights import Layer
from workbench.kernels.gate import silu_and_multiply
from workbench.kernels.norm import rms_norm
from workbench.kernels.paged_attention import attend_decode, attend_prefill
from workbench.kernels.rotary import rotate_and_store


@dataclass(frozen=True)
class Prompts:
    """The sequences with several tokens in the batch, whose rows come after the single ones."""

    tables: torch.Tensor  # [P, blocks]
    lengths: torch.Tensor  # [P]
    starts: torch.Tensor  # [P + 1] from the first of their rows on
    most_rows: int


@dataclass(frozen=True)
class CudaInputs:
    """A batch as the kernels take it; the first rows are those of the sequences with one token."""

    positions: torch.Tensor  # [T]
    slots: torch.Tensor  # [T]
    tables: torch.Tensor  # [singles, blocks]
    lengths: torch.Tensor  # [singles]
    prompts: Prompts | None = None


class CudaOps:
    """See `model.Ops`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def inputs(self, batch: Batch) -> CudaInputs:
        """Gives a batch as tensors on the device."""
        singles = batch.singles
        prompts = None
        if singles < len(batch.lengths):
            starts = batch.starts[singles:]
            prompts = Prompts(
                tables=self.on_device(batch.tables[singles:].astype(np.int32)),
                lengths=self.on_device(batch.lengths[singles:].astype(np.int32)),
                starts=self.on_device((starts - starts[0]).astype(np.int32)),
                most_rows=int(np.diff(starts).max()),
            )
        return CudaInputs(
            positions=self.on_device(batch.positions),
            slots=self.on_device(batch.slots),
            tables=self.on_device(batch.tables[:singles].astype(np.int32)),
            lengths=self.on_device(batch.lengths[:singles].astype(np.int32)),
            prompts=prompts,
        )

    def on_device(self, array: np.ndarray[tuple[int, ...], np.dtype[np.signedinteger]]) -> torch.Tensor:
        """Gives numbers as a tensor on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def linear(self, matrix: torch.Tensor) -> Linear:
        return CudaLinear(matrix)

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        normed: torch.Tensor = rms_norm(x, weight, eps)[0]
        return normed

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = silu_and_multiply(gate_up)
        return product

    def rotate_and_store(
        self, qkv: torch.Tensor, layer: Layer, turns: Turns, cache: torch.Tensor, inputs: CudaInputs
    ) -> torch.Tensor:
        where = (inputs.positions, inputs.slots, turns.cos_sin, cache)
        queries: torch.Tensor = rotate_and_store(
            qkv, *where, layer.q_norm, layer.k_norm, turns.eps, turns.heads, turns.kv_heads
        )
        return queries

    def attend(
        self, queries: torch.Tensor, cache: torch.Tensor, inputs: CudaInputs, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        found = torch.empty_like(queries) if out is None else out
        scale = 1 / math.sqrt(queries.shape[-1])
        singles = len(inputs.lengths)
        if singles:
            attend_decode(queries[:singles], cache, inputs.tables, inputs.lengths, scale, out=found[:singles])
        if prompts := inputs.prompts:
            where = (cache, prompts.tables, prompts.lengths, prompts.starts, prompts.most_rows)
            attend_prefill(queries[singles:], *where, scale, out=found[singles:])
        return found.view(len(queries), -1)


class CudaLinear:
    """A matrix for cuBLAS, which adds in the same pass."""

    way = "cublas"

    def __init__(self, matrix: torch.Tensor) -> None:
        self._matrix = matrix.t()

    def __call__(
        self, x: torch.Tensor, plus: torch.Tensor | None = None, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        if plus is None:
            return torch.mm(x, self._matrix, out=out)
        return torch.addmm(plus, x, self._matrix, out=out)
