"""What is said over a channel, in whichever parts and with whatever in between."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator

import pytest

from workbench.launch.channel import Channel, Message, Sender

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


def waits(sender: Sender) -> threading.Thread:
    """For all that it was told to be said."""
    waiting = threading.Thread(target=sender.finish, daemon=True)
    waiting.start()
    return waiting


def test_who_tells_a_sender_waits_for_nobody_and_all_is_heard_in_its_order() -> None:
    channel, socket = Channel.pair()
    sender, other = Sender(Channel(socket)), channel
    said = [LONG | {"number": number} for number in range(50)]
    for message in said:  # ten times what a socket holds
        sender.tell(message)
    waiting = waits(sender)
    waiting.join(0.1)
    assert waiting.is_alive(), "nobody has heard it"
    assert [other.receive() for _ in said] == said
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_sender_keeps_nobody_where_nobody_wants_to_hear_it(is_there: bool) -> None:
    channel, socket = Channel.pair()
    sender = Sender(Channel(socket))
    for _ in range(50):
        sender.tell(LONG)
    waiting = waits(sender)
    if is_there:
        sender.give_up()
    else:
        channel.close()
    waiting.join(10)
    assert not waiting.is_alive()
