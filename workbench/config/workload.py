"""What is asked of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.config.fields import build, plain, settle
from workbench.errors import UsageError, short


@dataclass(frozen=True)
class Workload:
    """Prompts and sampling; equal ones ask every engine for the same."""

    prompts: tuple[str, ...]
    max_tokens: int = 64  # of an answer
    temperature: float = 0.0  # 0: always the likeliest token; vLLM takes up to 2, and less than 0.01 as 0.01
    top_k: int | None = None  # only the likeliest so many tokens; none: all
    top_p: float = 1.0  # only the likeliest tokens that together have this probability
    seed: int = 0  # of sampling: of each request's own random numbers, together with its index
    stop: tuple[str, ...] = ()  # an answer ends before the first of these texts
    stop_at_end: bool = True  # false: go on past the model's end token, so that every answer has `max_tokens`

    def __post_init__(self) -> None:
        """Refuses what no engine could answer."""
        settle(self, "workload")
        for text in (*self.prompts, *self.stop):
            _refuse_what_is_no_text(text)
        if not self.prompts or not all(self.prompts):
            raise UsageError("a workload needs at least one prompt, and none of them empty")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if self.temperature < 0:
            raise UsageError(f"temperature must be 0 or more, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k must be at least 1, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if not all(self.stop):
            raise UsageError("stop has an empty text: every answer would end at once")

    @classmethod
    def from_dict(cls, given: Mapping[str, object]) -> Workload:
        """Gives the workload that plain data describes; one text to stop at may stand alone."""
        if isinstance(given, Mapping) and isinstance(stop := given.get("stop"), str):
            given = {**given, "stop": [stop]}
        return build(cls, given, "workload")

    def to_dict(self) -> dict[str, object]:
        """Gives the workload as plain data that `from_dict` reads back to an equal one."""
        return plain(self)


def _refuse_what_is_no_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"workload has {short(text)}, which is no text that UTF-8 can say") from None
