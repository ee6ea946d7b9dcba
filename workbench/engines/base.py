"""What every engine is to the rest of the workbench: load, generate, close, and a probe that it reports to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from workbench.config import EngineConfig, Workload
from workbench.recorder.probe import Probe


class Token(NamedTuple):
    """One token of an answer."""

    request: int  # its number in the run
    position: int  # in the answer, from 0
    id: int
    text: str  # what it adds to the answer; empty while a character, or what may be a stop text, is incomplete
    end: str | None = None  # of an answer's last token: why it is the last, `stop` or `length`


class Piece(NamedTuple):
    """Some of an answer's tokens, that came out together: in a stream one, as a rule."""

    request: int  # its number in the run
    position: int  # of the first, in the answer
    ids: Sequence[int]  # one or more
    text: str  # what they add to the answer
    end: str | None = None  # where the last one is the answer's last: why it is

    def tokens(self) -> Iterator[Token]:
        """Gives them one by one; the text comes with the last."""
        last = len(self.ids) - 1
        for index, token in enumerate(self.ids[:last]):
            yield Token(self.request, self.position + index, token, "")
        yield Token(self.request, self.position + last, self.ids[last], self.text, self.end)


class Engine(Protocol):
    """Answers workloads under one config. Made, loaded and closed once, in a process of its own."""

    def load(self, config: EngineConfig, probe: Probe) -> None:
        """Brings the model up; refuses what the config asks and this engine does not do."""

    def generate(self, workload: Workload, first: int = 0, stream: bool = True) -> Iterator[list[Piece]]:
        """Gives, step by step, what came out; `first` is the first request's number in the run.

        What can not be answered is refused at once, with a `UsageError`, and not in a step.
        Without `stream` an answer's tokens may come together, once it is complete, where that costs less. An iterator
        that is closed early cancels what is not answered yet.
        """

    def close(self) -> None:
        """Gives back all that `load` took; also when `load` failed half-way, also twice."""
