"""What is noted of every forward pass as it is launched and as it ends, to be reported once there are several."""

from __future__ import annotations

import functools
import time
from collections.abc import Sized
from typing import Any, NamedTuple

from workbench.recorder.probe import Step

KEPT = 1000  # batches; more are never in flight, but nobody takes them where vLLM is driven by somebody else


class Launch(NamedTuple):
    """A forward pass as it was launched."""

    start_ns: int  # on the one clock
    waiting: int  # requests
    free: int  # blocks of the KV cache
    tokens: int
    requests: int
    scheduled: Any  # vLLM's SchedulerOutput, while requests are being read

    @property
    def has_new(self) -> bool:
        """Whether it is the first of a request."""
        return self.scheduled is not None and bool(self.scheduled.scheduled_new_reqs)

    def step(self, end_ns: int, blocks: int) -> Step | None:
        """Gives what is reported of it; nothing, where it was only a message to the workers.

        Of the blocks vLLM's own first one is in use always.
        """
        if not self.tokens:
            return None
        return Step(self.start_ns, end_ns, self.tokens, self.requests, self.waiting, blocks - self.free, blocks)


class Launches:
    """The forward passes that nobody has taken yet, oldest first."""

    # A step of a small model takes two milliseconds and leaves nothing of ours in any cache: what is called in each
    # takes ten times as long as in a loop. So a step notes only, as it begins where the numbers have just been used,
    # and keeps nothing of vLLM's, which would have to find other memory for its next step.

    def __init__(self, in_flight: Sized) -> None:
        self.is_reading = False  # whether any of these read a prompt, or who takes them says so
        self._in_flight = in_flight  # those whose outcome nobody has taken yet
        self._launched: list[tuple[int, int, int, int, int, Any]] = []  # a `Launch` each
        self._ends: list[tuple[int, int]] = []  # times, and how many of these had ended by then

    def note(self, executor: Any, scheduler: Any) -> None:
        """Notes what is handed to the workers, wherever they are: every forward pass goes through here."""
        plain, launched, now = executor.execute_model, self._launched, time.monotonic_ns
        requests, free = scheduler.get_request_counts, scheduler.kv_cache_manager.block_pool.get_num_free_blocks

        @functools.wraps(plain)
        def noted(scheduled: Any, *given: Any, **named: Any) -> Any:
            tokens, counts, kept = scheduled.total_num_scheduled_tokens, scheduled.num_scheduled_tokens, None
            if len(launched) > KEPT:
                self.forget()
            if self.is_reading or scheduled.scheduled_new_reqs:
                self.is_reading, kept = True, scheduled
            launched.append((now(), requests()[1], free(), tokens, len(counts), kept))
            return plain(scheduled, *given, **named)

        executor.execute_model = noted

    def forget(self) -> None:
        """Leaves out what somebody else has driven vLLM to."""
        del self._launched[: len(self._launched) - len(self._in_flight)], self._ends[:]
        self.is_reading = False

    def end(self, now: int) -> None:
        """Notes the end of all but those in flight."""
        self._ends.append((now, len(self._launched) - len(self._in_flight)))

    def ended(self) -> list[tuple[Launch, int]]:
        """Gives those that have ended, and when, once."""
        ended: list[tuple[Launch, int]] = []
        for end_ns, count in self._ends:
            ended += ((Launch(*launch), end_ns) for launch in self._launched[len(ended) : count])
        del self._launched[: len(ended)], self._ends[:]
        self.is_reading = any(Launch(*launch).has_new for launch in self._launched)
        return ended
