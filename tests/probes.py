"""What tests of engines share: a probe, and all tokens of a workload."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from workbench.config import Workload
from workbench.engines import Engine, Token
from workbench.recorder.probe import Copy, Step


def generated(engine: Engine, workload: Workload, **known: Any) -> list[Token]:
    """All tokens of a workload, in the order in which they came out."""
    pieces = chain.from_iterable(engine.generate(workload, **known))
    return [token for piece in pieces for token in piece.tokens()]


class Tag:
    """One that may be entered again and again."""

    def __init__(self, notes: Notes, name: str) -> None:
        self._notes, self._name = notes, name

    def __enter__(self) -> None:
        self._notes.open.append(self._name)
        self._notes.tags.add(tuple(self._notes.open))

    def __exit__(self, *_: object) -> None:
        self._notes.open.pop()


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.tags: set[tuple[str, ...]] = set()
        self.told: list[tuple[int, int, int]] = []
        self.requests: list[dict[str, Any]] = []
        self.steps: list[Step] = []
        self.said: dict[str, dict[str, Any]] = {}
        self.copies: list[Copy] = []
        self.open: list[str] = []  # tags
        self.began_ns = 0  # when the last phase had begun, as far as the probe is concerned

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.phases.append(name)
        self.began_ns = time.monotonic_ns()
        yield
        self.phases.append(f"end of {name}")

    def tag(self, name: str) -> Tag:
        return Tag(self, name)

    def tokens(self, request: int, position: int, count: int = 1) -> None:
        self.told.append((request, position, count))

    def request(self, **facts: Any) -> None:
        self.requests.append(facts)

    def telling(self) -> int:
        return 0

    def copy(self, copy: Copy) -> None:
        self.copies.append(copy)

    def facts(self, what: str, values: dict[str, Any]) -> None:
        self.said[what] = values

    def step(self, step: Step) -> None:
        self.steps.append(step)
