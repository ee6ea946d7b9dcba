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
