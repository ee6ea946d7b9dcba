"""What is said over a channel, in whichever parts and with whatever in between."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator

import pytest

from workbench.launch.channel import Channel, Message

LONG = {"is": "pieces", "text": "x" * 100_000}
LINE = json.dumps(LONG).encode() + b"\n"


@pytest.fixture
def _interrupts() -> Iterator[None]:
    """Comes as a Ctrl-C does, in a tenth of a second."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_interrupts")
def test_an_interrupt_in_the_middle_of_saying_something_cuts_nothing_off() -> None:
    """The other end reads nothing yet, so that there is no room for all of it."""
    channel, socket = Channel.pair()
    other = Channel(socket)
    with pytest.raises(KeyboardInterrupt):
        channel.send(LONG | {"text": "x" * 5_000_000})
    heard: list[Message | None] = []
    listening = threading.Thread(target=lambda: heard.extend([other.receive(), other.receive()]))
    listening.start()
    channel.send({"do": "cancel"})
    listening.join()
    assert [heard[0] == LONG | {"text": "x" * 5_000_000}, heard[1]] == [True, {"do": "cancel"}]


@pytest.mark.usefixtures("_interrupts")
@pytest.mark.parametrize("first", [0, 50, 50_000, len(LINE) - 1])
def test_an_interrupt_in_the_middle_of_a_message_loses_nothing_of_it(first: int) -> None:
    channel, other = Channel.pair()
    other.sendall(LINE[:first])
    with pytest.raises(KeyboardInterrupt):
        channel.receive()
    other.sendall(LINE[first:] + b'{"is": "done"}\n{"is"')
    assert channel.receive() == LONG
    assert channel.receive() == {"is": "done"}
    other.close()
    assert channel.receive() is None, "it went in the middle of a word"
    assert channel.receive() is None
    channel.close()
    assert channel.receive() is None
