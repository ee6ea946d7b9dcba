"""How a recorded process talks to its scribe: JSON lines over a local socket that only the same user may use.

High volume never passes here, only the ring; these are phases, tags and the end. A message with an answer holds the
process at that point until the scribe has taken what was recorded up to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from workbench.errors import RunError

Message = dict[str, Any]
ANSWER_WITHIN_S = 60.0
PART = 1 << 14  # bytes that are read at a time, at most: so few are nothing that would be recorded


def address(folder: Path) -> str:
    """The scribe's socket for the run in `folder`: an abstract one, so that no path is too long and none is left."""
    return "\0workbench-" + hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]


def listen(folder: Path) -> socket.socket:
    """The scribe's end. Fails where another scribe writes the same run."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        server.bind(address(folder))
    except OSError:
        raise RunError(f"{folder} is being written by another recording") from None
    server.listen()
    return server


def peer(connection: socket.socket) -> tuple[int, int]:
    """The process at the other end, as this one's namespace numbers it (0: it has no number here), and its user."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", credentials)
    return pid, user


class Leaving(NamedTuple):
    """What is being sent."""

    data: bytes
    sent: list[int]  # bytes of it, by each call

    @property
    def rest(self) -> bytes:
        return self.data[sum(self.sent) :]


class Lines:
    """What goes and comes over a socket, line by line. An interrupt leaves none of them cut or lost.

    What a call has sent or read is kept by that call: between it and the next an interrupt would lose it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._leaving = Leaving(b"", [])
        self._parts = [b""]  # of what came and is no line yet

    def send(self, line: bytes) -> None:
        """Sends a line, after the rest of one in which an interrupt came; raises `OSError` where nobody listens."""
        self._leaving = Leaving(self._leaving.rest + line, [])
        while rest := self._leaving.rest:
            self._leaving.sent.extend(map(self._socket.send, (rest,)))

    def next(self) -> bytes | None:
        """Waits for a line; None: the other end is gone, or says nothing for as long as the socket waits."""
        while b"\n" not in self._parts[-1]:
            try:
                self._parts.extend(map(self._socket.recv, (PART,)))
            except OSError:
                return None
            if not self._parts[-1]:
                return None
        line, _, rest = b"".join(self._parts).partition(b"\n")
        self._parts = [rest]
        return line


class Line:
    """The recorded process's end: sends messages, and waits for the answer of those that have one."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(address(folder))
        except OSError:
            self._socket.close()
            raise RunError(f"nobody writes the run in {folder}: its recording has ended") from None
        self._socket.settimeout(ANSWER_WITHIN_S)
        self._lines = Lines(self._socket)
        self._questions = count(1)

    def tell(self, do: str, **message: Any) -> None:
        """Send a message that has no answer."""
        try:
            self._lines.send(encode({"do": do, **message}))
        except OSError:
            raise RunError("the recording has ended: its scribe is gone") from None

    def ask(self, do: str, **message: Any) -> Message:
        """Send a message and wait for its answer."""
        question = next(self._questions)
        self.tell(do, **message, question=question)
        if do == "finish":  # sealing takes as long as it takes; a scribe that is gone has hung up
            self._socket.settimeout(None)
        while (line := self._lines.next()) is not None:
            answer: Message = json.loads(line)
            if answer["to"] < question:  # an interrupt came while it was waited for
                continue
            if "error" in answer:
                raise RunError(answer["error"])
            return answer
        raise RunError("the recording has ended: its scribe is gone")

    def close(self) -> None:
        self._socket.close()


def encode(message: Message) -> bytes:
    """A message as it goes over the wire."""
    return json.dumps(message).encode() + b"\n"
