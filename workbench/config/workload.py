"""What is asked of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.config.fields import build, plain
from workbench.errors import UsageError


@dataclass(frozen=True)
class Workload:
    """Prompts and sampling; equal ones ask every engine for the same."""

    prompts: tuple[str, ...]
    max_tokens: int = 64  # of an answer
    temperature: float = 0.0  # 0: always the likeliest token
    seed: int = 0  # of sampling
    stop_at_end: bool = True  # false: go on past the model's end token, so that every answer has `max_tokens`

    def __post_init__(self) -> None:
        """Refuses what no engine could answer."""
        if not self.prompts or not all(self.prompts):
            raise UsageError("a workload needs at least one prompt, and none of them empty")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if self.temperature < 0:
            raise UsageError(f"temperature must be 0 or more, not {self.temperature}")

    @classmethod
    def from_dict(cls, given: Mapping[str, object]) -> Workload:
        """Gives the workload that plain data describes."""
        return build(cls, given, "workload")

    def to_dict(self) -> dict[str, object]:
        """Gives the workload as plain data that `from_dict` reads back to an equal one."""
        return plain(self)
