"""What an engine's process does where its session does not listen: no process is needed for that."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from workbench.config import EngineConfig, Workload
from workbench.engines import Piece
from workbench.errors import EngineError
from workbench.launch import worker
from workbench.launch.channel import Channel, Message
from workbench.launch.worker import Worker
from workbench.recorder.probe import NullProbe, Probe

STEPS = 5000  # ten times what a socket holds of them


class Failing:
    """An engine that fails after so many steps."""

    def __init__(self) -> None:
        self.is_closed = threading.Event()
        self.is_nobody_s = threading.Event()  # its session is gone, for which its process would be ended

    def load(self, config: EngineConfig, probe: Probe) -> None: ...

    def generate(self, workload: Workload, first: int = 0, stream: bool = True) -> Iterator[list[Piece]]:
        for position in range(STEPS):
            yield [Piece(first, position, [position], "a text of some length" * 10)]
        raise EngineError("it is broken")

    def close(self) -> None:
        self.is_closed.set()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Failing:
    made = Failing()
    monkeypatch.setattr(worker, "engine", lambda _: lambda: made)
    monkeypatch.setattr(worker, "TOGETHER_S", -1.0)  # every step is told of at once
    monkeypatch.setattr(os, "killpg", lambda *_: made.is_nobody_s.set())  # else this one
    return made


@pytest.fixture
def served(engine: Failing) -> Iterator[tuple[Channel, threading.Thread]]:
    """An engine that fails, and the session's end of its channel, on which nobody has listened since it was loaded."""
    channel, socket = Channel.pair()

    def serve() -> None:
        with pytest.raises(EngineError, match="broken"):
            Worker(Channel(socket), NullProbe()).serve(EngineConfig())

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    assert channel.receive() == {"is": "ready"}
    channel.send({"do": "generate", "workload": Workload(("a",)).to_dict(), "stream": True})
    assert engine.is_closed.wait(20), "it waits for who reads its tokens"
    yield channel, serving
    channel.close()
    serving.join(20)
    assert engine.is_nobody_s.wait(20)  # before this process can be ended again


def test_an_engine_that_fails_gives_back_what_it_holds_and_why_is_heard_behind_its_tokens(
    served: tuple[Channel, threading.Thread],
) -> None:
    channel, serving = served
    serving.join(0.1)
    assert serving.is_alive(), "nobody has heard why"
    told: list[Message | None] = [channel.receive() for _ in range(STEPS)]
    assert [message and message["pieces"][0][1] for message in told] == list(range(STEPS))
    assert channel.receive() == {"is": "failed", "what": "it is broken", "code": EngineError.exit_code}
    serving.join(20)
    assert not serving.is_alive()


def test_an_engine_that_is_told_to_close_waits_for_nobody_to_hear_why_it_fails(
    served: tuple[Channel, threading.Thread],
) -> None:
    channel, serving = served
    channel.send({"do": "close"})
    serving.join(20)
    assert not serving.is_alive()
