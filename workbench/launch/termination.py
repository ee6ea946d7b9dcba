"""Signals that end things: what was begun is ended in order, however often they come.

A SIGTERM, as `timeout` and service managers send it, is like a Ctrl-C.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
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

    with _handled(signal.SIGTERM, terminate):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """While the block runs, a Ctrl-C changes nothing: for what ends something already, and soon."""
    if threading.current_thread() is not threading.main_thread():  # a Ctrl-C comes to no other
        yield
        return
    with _handled(signal.SIGINT, lambda *_: None):
        yield


@contextmanager
def _handled(sign: signal.Signals, handler: Callable[..., None]) -> Iterator[None]:
    before = signal.signal(sign, handler) or signal.SIG_DFL  # none: somebody else's than Python's
    try:
        yield
    finally:
        signal.signal(sign, before)
