"""What a session and its engine's process say to each other: JSON lines over a socket of their own."""

from __future__ import annotations

import json
import socket
import threading

from workbench.recorder.wire import Lines, Message, encode

__all__ = ["Channel", "Message"]


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
        with self._sending:
            self._lines.send(encode(message))

    def receive(self) -> Message | None:
        """Waits for what the other end says next; None: it is gone. An interrupt loses nothing of it."""
        line = self._lines.next()
        return None if line is None else json.loads(line)

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()
