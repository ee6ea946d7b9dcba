"""One workload in vLLM: its requests, asked all at once, and their answers as they come out."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from workbench.engines.base import Piece
from workbench.engines.vllm.core import Core
from workbench.engines.vllm.refusal import in_one_line, refused
from workbench.errors import EngineError
from workbench.recorder.probe import Probe

HELD_NS = 100_000_000  # steps are told of together, after this time at the latest


@dataclass(slots=True)
class Request:
    """A request that is not answered yet."""

    number: int  # in the run
    prompt: list[int]
    arrived_ns: int | None = None
    started_ns: int | None = None
    answered: int = 0  # tokens


class Answers:
    """The answers to one workload; drives vLLM's loop itself, a step at a time."""

    def __init__(self, engine: Any, core: Core, probe: Probe, requests: list[Request]) -> None:
        self._engine = engine
        self._core = core
        self._probe = probe
        self._activations = probe.tag("activations")
        self._requests = {str(request.number): request for request in requests}  # by what vLLM is told to call them
        self._has_failed = False
        self._reported_ns = 0
        self._reading: dict[str, Request] = {}  # by vLLM's ids: whose first token has not come out, where none is told

    def pieces(self, rules: Iterator[Any], stream: bool) -> Generator[list[Piece]]:
        """Gives the pieces of every answer by its `sampling`; closed early, it cancels what is not answered yet.

        Without `stream` vLLM tells of an answer once, at its end, which costs it less.
        """
        self._stream = stream
        with self._probe.phase("generate"):
            self._core.launches.forget()
            self._arrive()
            try:
                with in_one_line("to take the prompts"):
                    self._ask(rules)
                while self._requests:
                    yield self._steps()
            finally:
                self._report_steps()
                self._cancel()

    def _arrive(self) -> None:
        """Requests arrive together, in the phase: its edge may take the recorder a while."""
        now = time.monotonic_ns()
        for request in self._requests.values():
            request.arrived_ns = now

    def _ask(self, rules: Iterator[Any]) -> None:
        from vllm.inputs import tokens_input

        for (name, request), rule in zip(self._requests.items(), rules, strict=False):
            self._engine.add_request(name, tokens_input(request.prompt), rule)

    def _steps(self) -> list[Piece]:
        """Lets vLLM step until there is something to tell, for so long that a caller can still cancel."""
        launches = self._core.launches
        try:
            with self._activations:
                while True:
                    outputs = self._engine.step()
                    now = time.monotonic_ns()
                    launches.end(now)
                    must_report = launches.is_reading or now - self._reported_ns > HELD_NS
                    if outputs or must_report:
                        break
        except Exception as error:
            self._has_failed = True  # it is asked for nothing more
            raise refused("in a step", error) from error
        if must_report:
            self._report_steps()
            self._reported_ns = now
        return [self._told(output, now) for output in outputs]

    def _told(self, output: Any, now: int) -> Piece:
        """Reports what a step added to an answer, before the caller takes it."""
        request = self._requests[output.request_id]
        answer = output.outputs[0]
        position, ids = request.answered, answer.token_ids
        request.answered = position + len(ids) if self._stream else len(ids)
        told = 0 if self._stream else position  # of these tokens
        if len(ids) > told:
            self._probe.tokens(request.number, position, len(ids) - told)
        end = self._ended(request, answer.finish_reason, now) if output.finished else None
        return Piece(request.number, position if self._stream else 0, list(ids), answer.text, end)

    def _ended(self, request: Request, why: str, now: int) -> str:
        if why not in ("stop", "length"):
            raise EngineError(f"vLLM gave up on request {request.number} after {request.answered} tokens: {why}")
        del self._requests[str(request.number)]
        self._report(request, why, now)
        return why

    def _report_steps(self) -> None:
        launches = self._core.launches
        for launch, end_ns in launches.ended():
            if launch.scheduled is not None:
                self._note_read(launch.scheduled, launch.start_ns)
            if step := launch.step(end_ns, self._core.blocks):
                self._probe.step(step)
        launches.is_reading |= bool(self._reading)

    def _note_read(self, scheduled: Any, start_ns: int) -> None:
        for new in scheduled.scheduled_new_reqs:
            self._started(new.req_id, start_ns)
        self._note_first_tokens(scheduled)

    def _named(self, name: str) -> Request | None:
        """The request that vLLM calls so, unless it is answered: it adds letters to the name that it was given."""
        return self._requests.get(name.partition("-")[0])

    def _started(self, name: str, start_ns: int) -> None:
        request = self._named(name)
        if request and request.started_ns is None:
            request.started_ns = start_ns
            if not self._stream:
                self._reading[name] = request

    def _note_first_tokens(self, scheduled: Any) -> None:
        """Tells the first token of every request whose prompt was read to its end, which vLLM itself does not tell."""
        again, counts = scheduled.scheduled_cached_reqs, scheduled.num_scheduled_tokens
        computed = {new.req_id: new.num_computed_tokens for new in scheduled.scheduled_new_reqs}
        computed |= zip(again.req_ids, again.num_computed_tokens, strict=True)  # 0 where one was taken its blocks
        for name, request in list(self._reading.items()):
            if computed.get(name, 0) + counts.get(name, 0) >= len(request.prompt):
                del self._reading[name]
                request.answered = 1
                self._probe.tokens(request.number, 0)

    def _cancel(self) -> None:
        """Leaves the engine with nothing to do: also batches that it launched ahead of the last answer's end."""
        try:
            if not self._has_failed:
                self._note_unfinished()
                with in_one_line("in its last steps"):
                    self._drain()
        finally:
            for request in self._requests.values():
                self._report(request, "cancelled", time.monotonic_ns())
            self._requests.clear()

    def _note_unfinished(self) -> None:
        """Tells the tokens of answers that vLLM will not tell of any more."""
        for name, count in self._core.answered():
            if (request := self._named(name)) and count > request.answered:
                self._probe.tokens(request.number, request.answered, count - request.answered)
                request.answered = count

    def _drain(self) -> None:
        self._engine.abort_request(list(self._requests))
        while self._core.in_flight():
            self._engine.step()
            self._core.launches.end(time.monotonic_ns())
        self._report_steps()

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
