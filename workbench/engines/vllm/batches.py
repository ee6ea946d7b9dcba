"""What is noted of every forward pass as it is launched, to be reported once its outcome is there."""

from __future__ import annotations

import functools
import time
from collections import deque
from typing import Any, NamedTuple

KEPT = 1000  # batches; more are never in flight, but nobody takes them where vLLM is driven by somebody else


class Batch(NamedTuple):
    """One forward pass."""

    start_ns: int  # on the one clock
    scheduled: Any  # vLLM's SchedulerOutput, which stays as it is


class Batches:
    """The forward passes that were launched and not reported yet, oldest first."""

    # A step of a small model takes two milliseconds: here and in what reports it every call counts.

    def __init__(self) -> None:
        self._launched: deque[Batch] = deque(maxlen=KEPT)

    def note(self, executor: Any) -> None:
        """Notes what is handed to the workers, wherever they are: every forward pass goes through here."""
        plain, launched = executor.execute_model, self._launched

        @functools.wraps(plain)
        def noted(scheduled: Any, *given: Any, **named: Any) -> Any:
            launched.append(Batch(time.monotonic_ns(), scheduled))
            return plain(scheduled, *given, **named)

        executor.execute_model = noted

    def finished(self, in_flight: int) -> list[Batch]:
        """Gives all but the last so many, once."""
        return [self._launched.popleft() for _ in range(len(self._launched) - in_flight)]
