"""Signals that end things: what was begun is ended in order, however often they come.

A SIGTERM, as `timeout` and service managers send it, is like a Ctrl-C, and so is the SIGHUP of a terminal that closes.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType

INTERRUPTED = 128 + signal.SIGINT  # the exit code that shells have for it
TERMINATING = (signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], object]


class Terminated(KeyboardInterrupt):
    """A signal came that ends a process."""

    def __init__(self, sign: int) -> None:
        super().__init__(f"ended by {signal.Signals(sign).name}")
        self.exit_code = 128 + sign


def exit_code(end: KeyboardInterrupt) -> int:
    """Gives the exit code of what was ended so."""
    return end.exit_code if isinstance(end, Terminated) else INTERRUPTED


@contextmanager
def terminable() -> Iterator[None]:
    """While the block runs, the first SIGTERM or SIGHUP raises `Terminated`; more, as `timeout` sends, change nothing.

    One that is ignored, as `nohup` has it, stays so.
    """
    came: list[int] = []

    def terminate(sign: int, _: FrameType | None) -> None:
        if not came:
            came.append(sign)
            raise Terminated(sign)

    with ExitStack() as handled:
        for sign in TERMINATING if _is_main() else ():
            if signal.getsignal(sign) != signal.SIG_IGN:
                handled.enter_context(_handled(sign, terminate))
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """While the block runs, a Ctrl-C changes nothing: for what ends something already, and soon."""
    if not _is_main():  # a Ctrl-C comes to no other
        yield
        return
    with _handled(signal.SIGINT, lambda *_: None):
        yield


class HeldBack:
    """While the block runs, what would interrupt it waits for its end, or for a part that lets it through."""

    def __init__(self) -> None:
        self._before: dict[int, Handler] = {}
        self._came: list[int] = []
        self._is_open = False

    def __enter__(self) -> HeldBack:
        for sign in (signal.SIGINT, *TERMINATING) if _is_main() else ():
            handler = signal.getsignal(sign)
            if callable(handler):  # else it interrupts nothing: it ends the process, or is ignored
                self._before[sign] = handler
                signal.signal(sign, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sign, handler in self._before.items():
            signal.signal(sign, handler)
        if not isinstance(error, KeyboardInterrupt):  # else the block has ended by one already
            self._deliver()

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """In this part of the block it interrupts at once, also what came before."""
        try:
            self._is_open = True
            self._deliver()
            yield
        finally:
            self._is_open = False

    def _take(self, sign: int, frame: FrameType | None) -> None:
        if self._is_open:
            self._before[sign](sign, frame)
        else:
            self._came.append(sign)

    def _deliver(self) -> None:
        while self._came:
            sign = self._came.pop(0)
            self._before[sign](sign, None)


def _is_main() -> bool:
    """Whether this is the thread that may say what signals do."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _handled(sign: signal.Signals, handler: Handler) -> Iterator[None]:
    before = signal.signal(sign, handler) or signal.SIG_DFL  # none: somebody else's than Python's
    try:
        yield
    finally:
        signal.signal(sign, before)
