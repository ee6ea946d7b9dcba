"""The reference engine. A token's way: Scheduler.schedule, Tables.batch, Model.forward, Sampler, _accept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from workbench.config import EngineConfig, Workload
from workbench.engines import model_folder
from workbench.engines.base import Piece
from workbench.engines.reference.batch import Batch, Tables, shortest_first
from workbench.engines.reference.blocks import BLOCK_SIZE, BlockPool
from workbench.engines.reference.runner import Runner, runner_of
from workbench.engines.reference.sampling import Sampler
from workbench.engines.reference.scheduler import Scheduler
from workbench.engines.reference.sequences import Chunk, Sequence
from workbench.engines.reference.shape import Shape
from workbench.engines.reference.text import Stopping, Text, text_of
from workbench.errors import UsageError
from workbench.mechanisms import process_group
from workbench.mechanisms.process_group import ProcessGroup
from workbench.recorder.probe import NullProbe, Probe, Step

MAX_BATCHED_TOKENS = 2048  # where limits.max_batched_tokens says nothing


@dataclass
class Request:
    """What the caller sees of a sequence."""

    text: Stopping
    told: int = 0  # tokens


class ReferenceEngine:
    """See `base.Engine`."""

    def __init__(self) -> None:
        self._probe: Probe = NullProbe()
        self._runner: Runner | None = None
        self._group: ProcessGroup | None = None

    def load(self, config: EngineConfig, probe: Probe) -> None:
        """Reads the weights and takes the KV cache's memory."""
        self._probe = probe
        folder = model_folder(config)
        shape = Shape.read(folder)
        limits = config.limits
        self._max_length = limits.max_length or shape.max_length
        self._max_tokens = limits.max_batched_tokens or max(MAX_BATCHED_TOKENS, limits.max_sequences)
        self._max_sequences = limits.max_sequences
        if config.process_group.name != "stock":
            self._join(config.process_group.name)
        self._text: Text = text_of(folder)
        self._ends, self._vocabulary = shape.ends, shape.vocabulary
        self._runner = runner_of(config, folder, shape, self._max_length, self._max_tokens, probe)
        self._pool = BlockPool(self._runner.blocks)

    def generate(self, workload: Workload, first: int = 0, stream: bool = True) -> Iterator[list[Piece]]:
        """Gives what comes out, step by step; refuses at once what can not be answered."""
        scheduler = Scheduler(self._pool, self._max_sequences, self._max_tokens)
        requests = self._queue(workload, scheduler, first, stream)
        return self._steps(workload, scheduler, requests)

    def _steps(self, workload: Workload, scheduler: Scheduler, requests: dict[int, Request]) -> Iterator[list[Piece]]:
        tables = Tables(self._max_sequences, -(-self._max_length // BLOCK_SIZE))
        sampler = Sampler(workload)
        with self._probe.phase("generate"):
            _arrive(scheduler)
            try:
                while scheduler.has_work:
                    yield self._step(scheduler, tables, sampler, requests, workload)
            finally:
                for sequence in [*scheduler.waiting, *scheduler.running]:
                    self._end(sequence, scheduler, "cancelled")

    def close(self) -> None:
        """Gives the model and the cache back, and leaves its group."""
        if self._runner is None and self._group is None:
            return
        with self._probe.phase("teardown"):
            if self._runner:
                self._runner.close()
            if self._group:
                self._group.end()
            self._runner = self._group = None

    def _join(self, name: str) -> None:
        """One rank needs no group, so a stock engine has none: what one costs is what can be asked for."""
        group = ProcessGroup(name)
        with self._probe.phase(process_group.PHASE):
            group.begin()
        self._group = group
        self._probe.facts(process_group.PHASE, {"ranks": [process_group.described()]})

    def _queue(self, workload: Workload, scheduler: Scheduler, first: int, stream: bool) -> dict[int, Request]:
        """Queues every prompt; refuses all of them where one can not be answered."""
        requests = {}
        for index, tokens in enumerate(self._text.encode(workload.prompts)):
            self._refuse(index, tokens, workload)
            most = min(len(tokens) + workload.max_tokens, self._max_length)
            scheduler.add(Sequence(first + index, index, tokens, len(tokens), most))
            requests[first + index] = Request(Stopping(self._text.answer(tokens), workload.stop, stream))
        return requests

    def _refuse(self, index: int, tokens: list[int], workload: Workload) -> None:
        if not tokens:
            raise UsageError(f"prompt {index} has no tokens: write something")
        if max(tokens) >= self._vocabulary:
            raise UsageError(
                f"prompt {index} has the token {max(tokens)}, and the model's vocabulary ends before "
                f"{self._vocabulary}: write something else, or take a model that its tokenizer belongs to"
            )
        count = len(tokens)
        if count >= self._max_length:
            raise UsageError(
                f"prompt {index} has {count} tokens and leaves no room for an answer within {self._max_length}: "
                "shorten it, or raise limits.max_length as far as the model goes"
            )
        whole, room = min(count + workload.max_tokens, self._max_length), self._pool.count * BLOCK_SIZE
        if whole > room:
            raise UsageError(
                f"prompt {index} and its answer may take {whole} tokens, and the KV budget holds {room}: "
                "raise limits.kv_budget, or lower max_tokens"
            )

    def _step(
        self,
        scheduler: Scheduler,
        tables: Tables,
        sampler: Sampler,
        requests: dict[int, Request],
        workload: Workload,
    ) -> list[Piece]:
        """One forward pass: schedule, run, accept."""
        assert self._runner is not None
        start = time.monotonic_ns()
        chunks = shortest_first(scheduler.schedule())
        batch = tables.batch(chunks)
        logits = self._runner.run(batch)
        chosen = sampler(logits, [chunk.sequence for chunk in chunks]).tolist()
        self._report(start, batch, scheduler)
        pieces = []
        for chunk, token in zip(chunks, chosen, strict=True):
            chunk.sequence.started_ns = chunk.sequence.started_ns or start
            is_last = chunk.is_last
            scheduler.computed(chunk)
            if is_last:
                pieces.append(self._accept(chunk, token, requests, scheduler, workload))
        return pieces

    def _accept(
        self, chunk: Chunk, token: int, requests: dict[int, Request], scheduler: Scheduler, workload: Workload
    ) -> Piece:
        """Appends a token to its sequence, and lets go of what is answered."""
        sequence, request = chunk.sequence, requests[chunk.sequence.request]
        sequence.tokens.append(token)
        text = request.text.add(token)
        end = self._why_ended(sequence, token, request, workload)
        if end:
            text += request.text.rest()
            end = "stop" if request.text.has_stopped else end
            self._end(sequence, scheduler, end)
        position = sequence.answered - 1
        self._probe.tokens(sequence.request, position)
        return Piece(sequence.request, position, (token,), text, end)

    def _why_ended(self, sequence: Sequence, token: int, request: Request, workload: Workload) -> str | None:
        if request.text.has_stopped or (workload.stop_at_end and token in self._ends):
            return "stop"
        return "length" if len(sequence.tokens) == sequence.most else None

    def _end(self, sequence: Sequence, scheduler: Scheduler, why: str) -> None:
        scheduler.end(sequence)
        self._probe.request(
            request=sequence.request,
            arrived_ns=sequence.arrived_ns,
            started_ns=sequence.started_ns,
            ended_ns=time.monotonic_ns(),
            prompt_tokens=sequence.prompt,
            answer_tokens=sequence.answered,
            end=why,
        )

    def _report(self, start: int, batch: Batch, scheduler: Scheduler) -> None:
        pool = scheduler.pool
        sizes = (len(batch.tokens), len(batch.lengths), len(scheduler.waiting))
        self._probe.step(Step(start, time.monotonic_ns(), *sizes, pool.held, pool.count))


def _arrive(scheduler: Scheduler) -> None:
    """Requests arrive together, in the phase: its edge may take the recorder a while."""
    now = time.monotonic_ns()
    for sequence in scheduler.waiting:
        sequence.arrived_ns = now
