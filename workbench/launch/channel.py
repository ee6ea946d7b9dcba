"""What a session and its engine's process say to each other: JSON lines over a socket of their own."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from queue import SimpleQueue

from workbench.recorder.wire import Lines, Message, encode

__all__ = ["Channel", "Message", "Sender"]


class Channel:
    """One end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lines = Lines(connection)
        self._sending = threading.Lock()

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Gives an end, and the socket of the other one."""
        mine, other = socket.socketpair()
        return cls(mine), other

    def send(self, message: Message) -> None:
        """Says something; raises `OSError` where nobody listens any more."""
        self.send_line(encode(message))

    def send_line(self, line: bytes) -> None:
        """The same of a message as it goes over the wire."""
        with self._sending:
            self._lines.send(line)

    def receive(self) -> Message | None:
        """Waits for what the other end says next; None: it is gone. An interrupt loses nothing of it."""
        line = self._lines.next()
        return None if line is None else json.loads(line)

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()


class Sender:
    """Says things over a channel in their order, on a thread of its own: who tells it never waits for who listens.

    What nobody has heard yet is kept as it goes over the wire, the shortest that it can be.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._unsaid: SimpleQueue[bytes] = SimpleQueue()
        self._is_over = threading.Event()
        threading.Thread(target=self._say_all, daemon=True).start()

    def tell(self, message: Message) -> None:
        """Has something said, after all that was told before."""
        self._unsaid.put(encode(message))

    def finish(self) -> None:
        """Waits until all has been said, or nobody wants to hear it."""
        self._unsaid.put(b"")
        self._is_over.wait()

    def give_up(self) -> None:
        """Nobody wants to hear what is not said yet: `finish` waits for it no more."""
        self._is_over.set()

    def _say_all(self) -> None:
        with suppress(OSError):  # nobody listens any more
            while line := self._unsaid.get():
                self._channel.send_line(line)
        self._is_over.set()
