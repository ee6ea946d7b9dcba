"""SIGTERM, as `timeout` and service managers send it: what was begun is ended in order, as by a Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """A SIGTERM came."""

    exit_code = 128 + signal.SIGTERM


@contextmanager
def terminable() -> Iterator[None]:
    """While the block runs, the first SIGTERM raises `Terminated`; more of them, as `timeout` sends, change nothing."""
    if threading.current_thread() is not threading.main_thread():  # only it may say what signals do
        yield
        return

    def terminate(*_: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: None)
        raise Terminated("ended by SIGTERM")

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
