"""Decode steps replayed from CUDA graphs: whole, or piece by piece around the attentions.

A graph is captured for some batch sizes; a step takes the next larger one, and its surplus rows are of no sequence:
they have length 0 and store nothing. All that a step needs to know goes to the device in one copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import torch

from workbench.engines.reference.batch import Batch
from workbench.engines.reference.cuda import CudaInputs, CudaOps
from workbench.engines.reference.model import Model

T = TypeVar("T")

STEP = 16  # between batch sizes that have a graph
WARM_UPS = 2  # runs before a capture: kernels are compiled and libraries get their workspaces


def sizes_up_to(most: int) -> list[int]:
    """Gives the batch sizes that get a graph, the largest first, so that smaller ones find its memory free again."""
    sizes = {size for size in (1, 2, 4, 8) if size < most} | set(range(STEP, most, STEP)) | {most}
    return sorted(sizes, reverse=True)


class StepInputs:
    """What a decode step needs to know, in one place on the device that graphs read from."""

    FIELDS = ("tokens", "positions", "slots", "lengths", "seats", "news at", "news")

    def __init__(self, seats: int, most_blocks: int, device: torch.device) -> None:
        self._most_blocks = most_blocks
        self._nowhere = seats * most_blocks  # a cell of the tables that no sequence reads
        self._host = torch.zeros(len(self.FIELDS), seats, dtype=torch.int64, pin_memory=True)
        self._filled = self._host.numpy()
        self._device = torch.zeros_like(self._host, device=device)
        self._tables = torch.zeros(seats * most_blocks + 1, dtype=torch.int32, device=device)

    def write(self, batch: Batch, size: int) -> None:
        """Sends a batch to the device, for the graph of `size`."""
        count = len(batch.tokens)
        news = batch.news
        if news.shape[1] > size:
            self.learn(batch)
            news = news[:, :0]
        rows = self._filled
        for row, values in enumerate((batch.tokens, batch.positions, batch.slots, batch.lengths, batch.seats)):
            rows[row, :count] = values
        rows[2, count:size] = -1  # stores nothing
        rows[3, count:size] = 0
        rows[5, : news.shape[1]], rows[5, news.shape[1] : size] = news[0], self._nowhere
        rows[6, : news.shape[1]] = news[1]
        self._device.copy_(self._host, non_blocking=True)

    def learn(self, batch: Batch) -> None:
        """Takes what is new in the tables, outside of any graph."""
        at, blocks = torch.from_numpy(batch.news).to(self._tables.device)
        self._tables[at] = blocks.int()

    def read(self, size: int) -> tuple[torch.Tensor, CudaInputs]:
        """Gives tokens and inputs of a step of `size`; this is captured with it."""
        tokens, positions, slots, lengths, seats, at, news = self._device[:, :size]
        self._tables[at] = news.int()
        tables = self._tables[:-1].view(-1, self._most_blocks)[seats]
        return tokens, CudaInputs(positions, slots, tables, lengths.int())


class Replay(Protocol):
    """A captured step."""

    def __call__(self) -> torch.Tensor:
        """Runs it; gives the logits, in the place where they always are."""


class Capturing:
    """Captures steps of a model, all with one pool of memory, one stream, and one place for logits.

    cuBLAS keeps 32 MiB for every stream that it was ever used on. Graphs of a stream share them: none may end alone.
    """

    def __init__(
        self, model: Model[CudaInputs], ops: CudaOps, caches: torch.Tensor, inputs: StepInputs, logits: torch.Tensor
    ) -> None:
        self._model = model
        self._ops = ops
        self._caches = caches
        self._inputs = inputs
        self._logits = logits
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def warm_up(self, sizes: list[int]) -> None:
        """Runs steps of all sizes before any is captured: what they take meanwhile would lie beside the pool."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for size in sizes * WARM_UPS:
                self._step(size)
        torch.cuda.current_stream().wait_stream(self._stream)

    def whole(self, size: int) -> Replay:
        """Gives a step as one graph."""
        graph, logits = self._capture(lambda: self._step(size))

        def replay() -> torch.Tensor:
            graph.replay()
            return logits

        return replay

    def pieces(self, size: int) -> Replay:
        """Gives a step as a graph before each attention and one after the last."""
        model, caches, layers = self._model, self._caches, self._model.shape.layers
        graphs: list[torch.cuda.CUDAGraph] = []

        def add(piece: Callable[[], tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
            graph, outputs = self._capture(piece)
            graphs.append(graph)
            return outputs

        def begin() -> tuple[torch.Tensor, ...]:
            tokens, inputs = self._inputs.read(size)
            return (*model.begin(tokens, inputs, caches), inputs.positions, inputs.slots, inputs.tables, inputs.lengths)

        x, queries, positions, slots, tables, lengths = add(begin)
        inputs = CudaInputs(positions, slots, tables, lengths)
        attended = torch.empty_like(queries)
        flat = attended.view(size, -1)
        between = []
        for index in range(layers - 1):
            between.append(queries)
            x, queries = add(lambda i=index, x=x: model.between(i, x, flat, inputs, caches))  # type: ignore[misc]
        between.append(queries)
        (logits,) = add(lambda x=x: (model.logits(model.finish(x, flat), out=self._logits[:size]),))  # type: ignore[misc]

        def replay() -> torch.Tensor:
            for index in range(layers):
                graphs[index].replay()
                self._ops.attend(between[index], caches[index], inputs, out=attended)
            graphs[-1].replay()
            return logits

        replay()  # compiles what attends
        return replay

    def _step(self, size: int) -> torch.Tensor:
        tokens, inputs = self._inputs.read(size)
        x = self._model.forward(tokens, inputs, self._caches)
        return self._model.logits(x, out=self._logits[:size])

    def _capture(self, step: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            outputs = step()
        return graph, outputs


class Replays:
    """The captured steps of every size."""

    def __init__(self, capture: Callable[[int], Replay], most: int, inputs: StepInputs) -> None:
        self._inputs = inputs
        self._by_size = {size: capture(size) for size in sizes_up_to(most)}
        sizes = np.array(sorted(self._by_size))
        self._size_for = sizes[np.searchsorted(sizes, np.arange(most + 1))]

    def run(self, batch: Batch) -> torch.Tensor:
        """Gives the logits of a batch of single tokens: [S, V]."""
        count = len(batch.tokens)
        size = int(self._size_for[count])
        self._inputs.write(batch, size)
        return self._by_size[size]()[:count]
