"""One workload in vLLM: its requests, asked all at once, and their answers as they come out."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

from workbench.config import Workload
from workbench.engines.base import Token
from workbench.engines.vllm.core import Core
from workbench.engines.vllm.refusal import in_one_line, refused
from workbench.engines.vllm.sampling import sampling
from workbench.errors import EngineError
from workbench.recorder.probe import Probe, Step


@dataclass(slots=True)
class Request:
    """A request that is not answered yet."""

    number: int  # in the run
    prompt: list[int]
    arrived_ns: int
    started_ns: int | None = None
    answered: int = 0  # tokens
    unread: int = 0  # tokens of the prompt that are in no batch yet


class Answers:
    """The answers to one workload; drives vLLM's loop itself, a step at a time."""

    def __init__(self, engine: Any, core: Core, probe: Probe, requests: list[Request]) -> None:
        self._engine = engine
        self._core = core
        self._probe = probe
        self._requests = {str(request.number): request for request in requests}  # by what vLLM is told to call them
        self._has_failed = False
        self._reading: dict[str, Request] = {}  # by vLLM's ids: whose first token has not come out, where none is told

    def tokens(self, workload: Workload, has_text: bool, stream: bool) -> Generator[list[Token]]:
        """Gives the tokens of every answer; closed early, it cancels what is not answered yet.

        Without `stream` vLLM tells of an answer once, at its end, which costs it less.
        """
        self._stream = stream
        with self._probe.phase("generate"):
            try:
                with in_one_line("to take the prompts"):
                    self._ask(workload, has_text)
                while self._requests:
                    yield self._step()
            finally:
                self._cancel()

    def _ask(self, workload: Workload, has_text: bool) -> None:
        from vllm.inputs import tokens_input

        rules = sampling(workload, has_text, self._stream)
        for (name, request), rule in zip(self._requests.items(), rules, strict=False):
            self._engine.add_request(name, tokens_input(request.prompt), rule)

    def _step(self) -> list[Token]:
        try:
            outputs = self._engine.step()
        except Exception as error:
            self._has_failed = True  # it is asked for nothing more
            raise refused("in a step", error) from error
        now = time.monotonic_ns()
        self._report_steps(now)
        tokens: list[Token] = []
        for output in outputs:
            self._tell(output, now, tokens)
        return tokens

    def _tell(self, output: Any, now: int, tokens: list[Token]) -> None:
        """Reports what a step added to an answer, before the caller takes the first token of it."""
        request = self._requests[output.request_id]
        answer = output.outputs[0]
        position, ids = request.answered, answer.token_ids
        request.answered = position + len(ids) if self._stream else len(ids)
        told = 0 if self._stream else position  # of these tokens
        if len(ids) > told:
            self._probe.tokens(request.number, position, len(ids) - told)
        end = self._ended(request, answer.finish_reason, now) if output.finished else None
        position = position if self._stream else 0
        last = position + len(ids) - 1
        if last > position:  # in a stream only where vLLM looked ahead
            tokens.extend(_without_text(request.number, position, last, ids))
        tokens.append(Token(request.number, last, ids[-1], answer.text, end))

    def _ended(self, request: Request, why: str, now: int) -> str:
        if why not in ("stop", "length"):
            raise EngineError(f"vLLM gave up on request {request.number} after {request.answered} tokens: {why}")
        del self._requests[str(request.number)]
        self._report(request, why, now)
        return why

    def _report_steps(self, now: int) -> None:
        core = self._core
        for start, scheduled in core.batches.finished(core.in_flight()):
            for new in scheduled.scheduled_new_reqs:
                self._started(new.req_id, start, new.num_computed_tokens)
            counts = scheduled.num_scheduled_tokens
            if self._reading:
                self._note_first_tokens(counts)
            if tokens := scheduled.total_num_scheduled_tokens:  # else it is only a message to the worker
                self._probe.step(
                    Step(start, now, tokens, len(counts), core.waiting(), core.blocks_in_use(), core.blocks)
                )

    def _started(self, name: str, start_ns: int, computed: int) -> None:
        request = self._requests.get(name.partition("-")[0])  # vLLM adds letters to the name that it was given
        if request and request.started_ns is None:
            request.started_ns = start_ns
            request.unread = len(request.prompt) - computed
            if not self._stream:
                self._reading[name] = request

    def _note_first_tokens(self, counts: dict[str, int]) -> None:
        """Tells the first token of every request whose prompt was read to its end, which vLLM itself does not tell."""
        for name, request in list(self._reading.items()):
            request.unread -= counts.get(name, 0)
            if request.unread <= 0:
                del self._reading[name]
                request.answered = 1
                self._probe.tokens(request.number, 0)

    def _cancel(self) -> None:
        """Leaves the engine with nothing to do: also batches that it launched ahead of the last answer's end."""
        if not self._has_failed:
            self._engine.abort_request(list(self._requests))
            while self._core.in_flight():
                self._engine.step()
                self._report_steps(time.monotonic_ns())
        for request in self._requests.values():
            self._report(request, "cancelled", time.monotonic_ns())
        self._requests.clear()

    def _report(self, request: Request, end: str, now: int) -> None:
        self._probe.request(
            request=request.number,
            arrived_ns=request.arrived_ns,
            started_ns=request.started_ns,
            ended_ns=now,
            prompt_tokens=len(request.prompt),
            answer_tokens=request.answered,
            end=end,
        )


def _without_text(request: int, position: int, last: int, ids: Iterable[int]) -> Iterator[Token]:
    """Gives the tokens before the last one; made without Python's own steps, for whole answers come at once."""
    fields = zip(repeat(request), range(position, last), ids, repeat(""), repeat(None), strict=False)
    return map(partial(tuple.__new__, Token), fields)
