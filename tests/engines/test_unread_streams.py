"""Streams of tokens that nobody reads: the engine goes on meanwhile, and ends at once when it is told to."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sessions import config
from workbench.config import Workload
from workbench.engines import Token
from workbench.errors import UsageError
from workbench.launch.session import Session
from workbench.run.store import Store

pytestmark = pytest.mark.usefixtures("nothing_is_left")

MANY = Workload(("a",) * 20_000, max_tokens=100, stop_at_end=False)
UNREAD = 30_000  # tokens: several times what a socket holds of them
LATE = UNREAD // MANY.max_tokens + 20  # a request that was not asked yet when they were made
SEQUENCES = 8  # that are answered together


def left_unread(session: Session) -> Iterator[Token]:
    """A stream of which one token was read, and more were made than a socket holds."""
    feed, stream = session.feed, session.generate(MANY, stream=True)
    next(stream)
    made, deadline = 0, time.monotonic() + 30
    while made < UNREAD:
        assert time.monotonic() < deadline, f"the engine waits for who reads its tokens: it made {made}"
        time.sleep(0.05)
        made += feed.new("tokens").num_rows
    return stream


@pytest.mark.parametrize("error", [None, ZeroDivisionError("mine")])
def test_a_session_that_is_left_with_a_stream_unread_ends_at_once_and_keeps_its_requests(
    error: BaseException | None, tiny_model: Path, tmp_path: Path
) -> None:
    with suppress(ZeroDivisionError), Session(config(tiny_model), store=Store(tmp_path)) as session:
        stream = left_unread(session)
        left = time.monotonic()
        if error:
            raise error
    assert time.monotonic() - left < 20, "it would be killed after a minute"
    stream.close()  # type: ignore[attr-defined]
    assert session.run is not None
    assert session.run.manifest.status == ("failed" if error else "complete")
    assert (session.run.manifest.error or {}).get("what") == ("ZeroDivisionError: mine" if error else None)
    assert len(session.run.table("requests")) == len(MANY.prompts)
    assert set(session.run.table("requests").column("end").to_pylist()) == {"length", "cancelled"}


def test_a_stream_of_a_session_that_has_ended_is_refused_and_costs_the_run_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        stream = session.generate(MANY, stream=True)
        next(stream)
    with pytest.raises(UsageError, match="this session has ended: begin another one"):
        list(stream)
    [run] = Store(tmp_path).runs()
    assert (run.manifest.status, run.manifest.error) == ("complete", None)


def test_a_stream_that_is_closed_unread_is_cancelled_and_the_session_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        stream = left_unread(session)
        closing = time.monotonic()
        stream.close()  # type: ignore[attr-defined]
        assert len(session.generate("a", max_tokens=3, stop_at_end=False)[0].tokens) == 3
        assert time.monotonic() - closing < 20
    assert session.run is not None
    assert session.run.table("requests").column("end").to_pylist()[-2:] == ["cancelled", "length"]


def test_a_stream_that_is_read_late_has_every_token(tiny_model: Path, tmp_path: Path) -> None:
    with Session(config(tiny_model, max_sequences=SEQUENCES), store=Store(tmp_path)) as session:
        stream = left_unread(session)
        positions = defaultdict(list)
        for token in stream:
            positions[token.request].append(token.position)
            if token.request == LATE and token.end:
                break
    assert positions[0] == list(range(1, MANY.max_tokens))  # the first one was read before
    assert all(positions[request] == list(range(MANY.max_tokens)) for request in range(1, LATE - SEQUENCES))
