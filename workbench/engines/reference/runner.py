"""A model in its place: weights, cache, and the way a batch is run on this device."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, Protocol

import torch

from workbench.config import EngineConfig
from workbench.engines.reference import weights
from workbench.engines.reference.batch import Batch
from workbench.engines.reference.blocks import BLOCK_SIZE
from workbench.engines.reference.cpu import CpuOps
from workbench.engines.reference.cpu_kernels import CpuKernelOps
from workbench.engines.reference.kv_budget import count_blocks, room_bytes
from workbench.engines.reference.model import Model
from workbench.engines.reference.shape import Shape
from workbench.errors import EngineError
from workbench.kernels import on_cpu
from workbench.recorder.probe import Probe


class Runner(Protocol):
    """Runs batches."""

    blocks: int  # of its KV cache

    def run(self, batch: Batch) -> torch.Tensor:
        """Gives the logits after each sequence's last token: [S, V]."""

    def close(self) -> None:
        """Gives the model and the cache back."""


def runner_of(
    config: EngineConfig, folder: Path, shape: Shape, max_length: int, max_tokens: int, probe: Probe
) -> Runner:
    """Loads a model for this machine's device: a GPU where there is one."""
    if torch.cuda.is_available():
        from workbench.engines.reference.cuda_runner import CudaRunner  # its kernels need Triton

        return CudaRunner(config, folder, shape, max_length, max_tokens, probe)
    return CpuRunner(config, folder, shape, max_length, probe)


class CpuRunner:
    """Runs every batch operation by operation."""

    def __init__(self, config: EngineConfig, folder: Path, shape: Shape, max_length: int, probe: Probe) -> None:
        device, dtype = torch.device("cpu"), dtype_of(config.dtype, shape)
        self._probe = probe
        has_kernels = on_cpu.serves(dtype, shape.head_dim)
        self._ops: Any = CpuKernelOps() if has_kernels else CpuOps()
        with probe.phase("load_weights"), probe.tag("weights"):
            loaded = weights.load(folder, shape, dtype, device)
            self._model: Model[Any] = Model(shape, loaded, self._ops, max_length)
        with probe.phase("kv_cache"), probe.tag("kv_cache"):
            token_bytes = shape.kv_bytes(dtype.itemsize)
            room = room_bytes(config.limits, max_length, token_bytes, device, reserve=0)
            self.blocks = count_blocks(room, config.limits, token_bytes)
            self._caches = new_caches(shape, self.blocks, dtype, device)
        facts = {"device": "cpu", "dtype": str(dtype).removeprefix("torch."), "graphs": "none"}
        facts["kernels"] = "native" if has_kernels else "torch"
        facts["matrices"] = ", ".join(sorted(self._model.ways))
        probe.facts("engine", facts | cache_facts(room, self.blocks, self._caches))

    @torch.inference_mode()
    def run(self, batch: Batch) -> torch.Tensor:
        with self._probe.tag("activations"):
            x = self._model.forward(torch.from_numpy(batch.tokens), self._inputs(batch), self._caches)
            return self._model.logits(x[torch.from_numpy(batch.last_rows)])

    def _inputs(self, batch: Batch) -> Any:
        return self._ops.inputs(batch, self._model.turns, self._caches.dtype)

    def close(self) -> None:
        del self._model, self._caches
        gc.collect()


def new_caches(shape: Shape, blocks: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Gives the KV cache as one piece of memory: [layers, slots, 2, kv heads, head_dim]."""
    try:
        # Zeros: what no token has written yet is read too, behind a mask, and must not be NaN.
        return torch.zeros(
            shape.layers, blocks * BLOCK_SIZE, 2, shape.kv_heads, shape.head_dim, dtype=dtype, device=device
        )
    except RuntimeError as error:
        needed = shape.kv_bytes(dtype.itemsize) * blocks * BLOCK_SIZE
        raise EngineError(
            f"there is no room for a KV cache of {needed} bytes: lower limits.kv_budget ({error})"
        ) from None


def cache_facts(room: int, blocks: int, caches: torch.Tensor) -> dict[str, object]:
    """Gives what an engine says of its cache: what it may take, and takes."""
    return {"kv_room_bytes": room, "block_size": BLOCK_SIZE, "blocks": blocks, "kv_cache_bytes": caches.nbytes}


def dtype_of(name: str, shape: Shape) -> torch.dtype:
    """Gives the torch dtype of a config's name; `auto` is what the weights were saved in."""
    found: torch.dtype = getattr(torch, shape.dtype if name == "auto" else name)
    return found
