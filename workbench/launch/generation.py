"""Prompts answered under a config, once, and what was recorded meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.config import EngineConfig, Workload
from workbench.launch.session import Answer, Session, refuse_stops, workload_of
from workbench.recorder.settings import Settings
from workbench.run.run import Run
from workbench.run.store import Store


@dataclass(frozen=True)
class Generation:
    """Answers, and the run in which they were made."""

    answers: list[Answer]
    run: Run


def generate(
    config: EngineConfig,
    prompts: str | Sequence[str] | Workload,
    *,
    name: str | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
    **rules: Any,
) -> Generation:
    """Answers prompts under a config, in a fresh process, by the rules of a `Workload`, such as `max_tokens=64`."""
    workload = workload_of(prompts, rules)
    refuse_stops(config, workload)
    with Session(config, name=name, store=store, settings=settings) as session:
        answers = session.generate(workload)
    assert session.run is not None
    return Generation(answers, session.run)


def record(
    config: EngineConfig,
    workload: str | Sequence[str] | Workload,
    *,
    name: str | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
    **rules: Any,
) -> Run:
    """Records a workload under a config, in a fresh process: `generate`, for whom only the run is of interest."""
    return generate(config, workload, name=name, store=store, settings=settings, **rules).run
