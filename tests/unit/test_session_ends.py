"""How a session ends where something comes in between: no engine is needed for that."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.config import EngineConfig
from workbench.launch.channel import Message
from workbench.launch.session import Session


class Told:
    """A channel on which an engine tells so much of each workload, and cancels when it is told to."""

    def __init__(self, *workloads: tuple[Any, ...]) -> None:
        self._workloads = list(workloads)
        self._told: list[Any] = []

    def send(self, order: Message) -> None:
        is_cancel = order["do"] == "cancel"
        self._told += [{"is": "cancelled", "number": order["number"]}] if is_cancel else self._workloads.pop(0)

    def receive(self) -> Message:
        message = self._told.pop(0)  # fails where an engine would say nothing more
        if isinstance(message, BaseException):
            raise message
        return message  # type: ignore[no-any-return]


def begun(*workloads: tuple[Any, ...]) -> Session:
    session = Session(EngineConfig())
    session._is_begun, session._channel = True, Told(*workloads)  # type: ignore[assignment]
    return session


REFUSED, DONE = {"is": "refused", "what": "a prompt is too long"}, {"is": "done"}


@pytest.mark.parametrize("left", [(REFUSED,), (DONE,), (), ({"is": "pieces", "pieces": []}, DONE)])
def test_a_workload_that_was_interrupted_at_any_moment_settles(left: tuple[Message, ...]) -> None:
    """Also where all had been read, and nobody had looked at it yet."""
    session = begun((KeyboardInterrupt(), *left), (DONE,))
    with pytest.raises(KeyboardInterrupt):
        session.generate("a")
    assert session._is_settled
    assert session.generate("b")[0].text == ""


def test_a_second_interrupt_while_the_first_one_settles_leaves_that_to_the_next_workload() -> None:
    session = begun((KeyboardInterrupt("once"), KeyboardInterrupt("again"), DONE), (DONE,))
    with pytest.raises(KeyboardInterrupt, match="again"):
        session.generate("a")
    assert not session._is_settled
    assert session.generate("b")[0].text == ""


@pytest.mark.parametrize("first", [KeyboardInterrupt("once"), None])
def test_a_run_says_what_ended_its_session_first(first: BaseException | None, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[BaseException | None] = []

    def close(error: BaseException | None) -> None:
        said.append(error)
        if len(said) == 1:
            raise while_it_closes

    session, while_it_closes = Session(EngineConfig()), KeyboardInterrupt("again")
    monkeypatch.setattr(session, "_close", close)
    with pytest.raises(KeyboardInterrupt, match="again"):
        session._end(first)
    session._end(None)  # at the end of the program
    assert said == [first, first or while_it_closes]
