"""The model on a GPU: prompts operation by operation, decode steps from graphs where the config asks for them."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import torch

from workbench.config import EngineConfig
from workbench.engines.reference import weights
from workbench.engines.reference.batch import Batch
from workbench.engines.reference.blocks import BLOCK_SIZE
from workbench.engines.reference.cuda import CudaInputs, CudaOps
from workbench.engines.reference.kv_budget import count_blocks, room_bytes
from workbench.engines.reference.model import Model
from workbench.engines.reference.replay import Capturing, Replays, StepInputs, sizes_up_to
from workbench.engines.reference.runner import cache_facts, dtype_of, new_caches
from workbench.engines.reference.shape import Shape
from workbench.recorder.probe import Probe

GRAPHS_ROOM = 64 << 20  # bytes left to graphs, and to what the libraries take at their first use


class CudaRunner:
    """See `runner.Runner`."""

    def __init__(
        self, config: EngineConfig, folder: Path, shape: Shape, max_length: int, max_tokens: int, probe: Probe
    ) -> None:
        self._probe = probe
        self._shape, self._dtype = shape, dtype_of(config.dtype, shape)
        self._replays: Replays | None = None
        with probe.phase("init_device"):
            self._device = torch.device("cuda", torch.cuda.current_device())
            torch.empty(1, device=self._device)
        self._ops = CudaOps(self._device)
        with probe.phase("load_weights"), probe.tag("weights"):
            loaded = weights.load(folder, shape, self._dtype, self._device)
            self._model: Model[CudaInputs] = Model(shape, loaded, self._ops, max_length)
        del loaded
        kind = "full" if config.graphs.name == "stock" else config.graphs.name
        with probe.phase("profile"):
            logits_bytes = config.limits.max_sequences * shape.vocabulary * self._dtype.itemsize
            places = 1 if kind == "none" else 2  # for logits: graphs have their own
            reserve = self._activation_bytes(max_tokens, max_length) + GRAPHS_ROOM + places * logits_bytes
        with probe.phase("kv_cache"), probe.tag("kv_cache"):
            token_bytes = shape.kv_bytes(self._dtype.itemsize)
            room = room_bytes(config.limits, max_length, token_bytes, self._device, reserve)
            self.blocks = count_blocks(room, config.limits, token_bytes)
            self._caches = new_caches(shape, self.blocks, self._dtype, self._device)
        seats, most_blocks = config.limits.max_sequences, -(-max_length // BLOCK_SIZE)
        if kind != "none":
            with probe.phase("capture"), probe.tag("graphs"):
                self._inputs = StepInputs(seats, most_blocks, self._device)
                self._replays = self._captured(kind, seats)
        probe.facts("engine", self._facts(kind) | cache_facts(room, self.blocks, self._caches))

    @torch.inference_mode()
    def run(self, batch: Batch) -> torch.Tensor:
        with self._probe.tag("activations"):
            if self._replays and batch.singles == len(batch.tokens):
                return self._replays.run(batch)
            if self._replays:
                self._inputs.learn(batch)
            x = self._model.forward(self._ops.on_device(batch.tokens), self._ops.inputs(batch), self._caches)
            return self._model.logits(x[self._ops.on_device(batch.last_rows)])

    def close(self) -> None:
        self._replays = None
        del self._model, self._caches
        gc.collect()
        torch.cuda.empty_cache()

    @torch.inference_mode()
    def _captured(self, kind: str, seats: int) -> Replays:
        logits = torch.empty(seats, self._shape.vocabulary, dtype=self._dtype, device=self._device)
        capturing = Capturing(self._model, self._ops, self._caches, self._inputs, logits)
        capturing.warm_up(sizes_up_to(seats))
        return Replays(capturing.whole if kind == "full" else capturing.pieces, seats, self._inputs)

    @torch.inference_mode()
    def _activation_bytes(self, tokens: int, max_length: int) -> int:
        """What a step of so many tokens takes beside weights and cache: it is run once, on a cache of its own."""
        blocks = -(-tokens // BLOCK_SIZE)
        with self._probe.tag("activations"):
            caches = new_caches(self._shape, blocks, self._dtype, self._device)
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            batch = one_prompt(tokens, blocks, max_length)
            x = self._model.forward(self._ops.on_device(batch.tokens), self._ops.inputs(batch), caches)
            self._model.logits(x[-1:])
            torch.cuda.synchronize()
            taken = torch.cuda.max_memory_allocated() - before
        del caches, x
        torch.cuda.empty_cache()
        return int(taken)

    def _facts(self, kind: str) -> dict[str, object]:
        return {
            "device": "cuda",
            "dtype": str(self._dtype).removeprefix("torch."),
            "graphs": kind,
            "attention": "triton",
        }


def one_prompt(tokens: int, blocks: int, max_length: int) -> Batch:
    """Gives a batch of one sequence of so many tokens, in the first blocks, at positions that there are."""
    numbers = np.arange(tokens)
    return Batch(
        tokens=np.zeros(tokens, np.int64),
        positions=numbers % max_length,
        slots=numbers,
        starts=np.array([0, tokens]),
        lengths=np.array([tokens]),
        tables=np.arange(blocks)[None],
        seats=np.zeros(1, np.int64),
        news=np.zeros((2, 0), np.int64),
        singles=int(tokens == 1),
    )
