"""How a session ends where something comes in between: no engine is needed for that."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workbench.config import EngineConfig
from workbench.launch.session import Session


def test_a_workload_that_was_refused_before_it_was_cancelled_has_settled() -> None:
    session = Session(EngineConfig())
    session._channel = SimpleNamespace(receive=lambda: {"is": "refused", "what": "a prompt is too long"})  # type: ignore[assignment]
    session._is_cancelling = True
    session._settle()
    assert not session._is_cancelling


def test_what_ended_a_session_first_is_what_its_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[BaseException | None] = []

    def close(error: BaseException | None) -> None:
        said.append(error)
        if len(said) == 1:
            raise KeyboardInterrupt  # the second Ctrl-C

    session, first = Session(EngineConfig()), KeyboardInterrupt()
    monkeypatch.setattr(session, "_close", close)
    with pytest.raises(KeyboardInterrupt):
        session._end(first)
    session._end(None)  # at the end of the program
    assert said == [first, first]


def test_a_session_that_is_interrupted_while_it_closes_does_not_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[BaseException | None] = []

    def close(error: BaseException | None) -> None:
        said.append(error)
        if len(said) == 1:
            raise interrupt

    session, interrupt = Session(EngineConfig()), KeyboardInterrupt()
    monkeypatch.setattr(session, "_close", close)
    with pytest.raises(KeyboardInterrupt):
        session._end(None)
    session._end(None)
    assert said == [None, interrupt]
