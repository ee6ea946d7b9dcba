"""What is noted of every forward pass as it is launched, to be reported once its outcome is there."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

KEPT = 1000  # batches; more are never in flight, but nobody takes them where vLLM is driven by somebody else


@dataclass(slots=True)
class Batch:
    """One forward pass."""

    start_ns: int  # on the one clock
    tokens: int  # that go through the model; 0: only a message to the worker
    counts: dict[str, int]  # the same by request, by vLLM's ids
    new: dict[str, int]  # the requests that had not been in a batch before, with the tokens that they found computed


class Batches:
    """The forward passes that were launched and not reported yet, oldest first."""

    def __init__(self) -> None:
        self._launched: deque[Batch] = deque(maxlen=KEPT)

    def launch(self, scheduled: Any, now: int) -> None:
        """Notes what vLLM's scheduler hands to the workers."""
        tokens: int = scheduled.total_num_scheduled_tokens
        new = {request.req_id: request.num_computed_tokens for request in scheduled.scheduled_new_reqs}
        self._launched.append(Batch(now, tokens, scheduled.num_scheduled_tokens, new))

    def finished(self, in_flight: int) -> list[Batch]:
        """Gives all but the last so many, once."""
        return [self._launched.popleft() for _ in range(len(self._launched) - in_flight)]
