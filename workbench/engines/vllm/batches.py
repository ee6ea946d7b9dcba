"""What is noted of every forward pass as it is launched and as it ends, to be reported once there are several."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Sized
from typing import Any, NamedTuple

from workbench.recorder.probe import Step

KEPT = 1000  # batches; more are never in flight, but nobody takes them where vLLM is driven by somebody else


Noted = tuple[int, int, int, Any]  # a `Batch` but for its end


class Batch(NamedTuple):
    """One forward pass."""

    end_ns: int  # on the one clock
    start_ns: int
    waiting: int  # requests, and
    free: int  # blocks of the KV cache, as it was launched
    scheduled: Any  # vLLM's SchedulerOutput, which stays as it is

    @property
    def is_empty(self) -> bool:
        """Whether it is only a message to the workers."""
        return not self.scheduled.total_num_scheduled_tokens

    def step(self, blocks: int) -> Step:
        """Gives what is reported of it, where there are so many blocks; vLLM's own first one is in use always."""
        tokens, requests = self.scheduled.total_num_scheduled_tokens, len(self.scheduled.num_scheduled_tokens)
        return Step(self.start_ns, self.end_ns, tokens, requests, self.waiting, blocks - self.free, blocks)


class Batches:
    """The forward passes that nobody has taken yet, oldest first."""

    # A step of a small model takes two milliseconds, and leaves nothing of ours in any cache: what is done in each
    # takes ten times as long as in a loop. So a step only notes, and where the numbers have just been used.

    def __init__(self, in_flight: Sized) -> None:
        self._in_flight = in_flight  # those whose outcome nobody has taken yet
        self._launched: deque[Noted] = deque(maxlen=KEPT)
        self._ended: list[tuple[int, Noted]] = []  # and when

    def note(self, executor: Any, scheduler: Any) -> None:
        """Notes what is handed to the workers, wherever they are: every forward pass goes through here."""
        plain, launched, now = executor.execute_model, self._launched, time.monotonic_ns
        requests, free = scheduler.get_request_counts, scheduler.kv_cache_manager.block_pool.get_num_free_blocks

        @functools.wraps(plain)
        def noted(scheduled: Any, *given: Any, **named: Any) -> Any:
            launched.append((now(), requests()[1], free(), scheduled))
            return plain(scheduled, *given, **named)

        executor.execute_model = noted

    def end(self, now: int) -> bool:
        """Notes the end of all but those in flight; gives whether one of them was the first of a request."""
        has_new = False
        for _ in range(len(self._launched) - len(self._in_flight)):
            noted = self._launched.popleft()
            self._ended.append((now, noted))
            has_new = has_new or bool(noted[-1].scheduled_new_reqs)
        return has_new

    def ended(self) -> list[Batch]:
        """Gives those that have ended, once."""
        batches = [Batch(end_ns, *noted) for end_ns, noted in self._ended]
        self._ended.clear()
        return batches
