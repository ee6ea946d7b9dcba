"""What a session and its engine's process say to each other: JSON lines over a socket of their own."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

Message = dict[str, Any]
PART = 1 << 16  # bytes that are read at a time, at most


class Channel:
    """One end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._parts = [b""]  # of what came and is no message yet
        self._sending = threading.Lock()

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Gives an end, and the socket of the other one."""
        mine, other = socket.socketpair()
        return cls(mine), other

    def send(self, message: Message) -> None:
        """Says something; raises `OSError` where nobody listens any more."""
        with self._sending:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> Message | None:
        """Waits for what the other end says next; None: it is gone. An interrupt loses nothing of it."""
        while b"\n" not in self._parts[-1]:
            try:
                # In one call, for an interrupt that came between reading and keeping would lose what was read.
                self._parts.extend(map(self._socket.recv, (PART,)))
            except OSError:
                return None
            if not self._parts[-1]:
                return None
        line, _, rest = b"".join(self._parts).partition(b"\n")
        message: Message = json.loads(line)
        self._parts = [rest]
        return message

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()
