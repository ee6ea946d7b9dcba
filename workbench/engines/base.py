"""What every engine is to the rest of the workbench: load, generate, close, and a probe that it reports to."""

from __future__ import annotations

from collections.abc import Iterator
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


class Engine(Protocol):
    """Answers workloads under one config. Made, loaded and closed once, in a process of its own."""

    def load(self, config: EngineConfig, probe: Probe) -> None:
        """Brings the model up; refuses what the config asks and this engine does not do."""

    def generate(self, workload: Workload, first: int = 0, stream: bool = True) -> Iterator[list[Token]]:
        """Gives, step by step, the tokens that came out; `first` is the first request's number in the run.

        Without `stream` an answer's tokens may come together, once it is complete, where that costs less. An iterator
        that is closed early cancels what is not answered yet.
        """

    def close(self) -> None:
        """Gives back all that `load` took; also when `load` failed half-way, also twice."""
