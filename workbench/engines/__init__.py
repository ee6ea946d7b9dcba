"""What is observed: engines by name, imported only when one is asked for, and what each can not do here."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from workbench.config import EngineConfig, axes
from workbench.config.models import described, resolve
from workbench.engines.base import Engine, Piece, Token
from workbench.engines.host import Host
from workbench.errors import UsageError, nearest

__all__ = [
    "Engine",
    "Host",
    "Piece",
    "Token",
    "engine",
    "engines",
    "environment",
    "model_folder",
    "refuse",
    "why_not",
]

_PACKAGES = {
    "reference": "workbench.engines.reference",
    "vllm": "workbench.engines.vllm",
}


class _Support(Protocol):
    """The module `support` of an engine's package: it is imported without what the engine itself needs."""

    CLASS: str  # module:class of the engine
    ENVIRONMENT: dict[str, str]  # of its process, where that says nothing else

    def missing(self) -> str | None:
        """Why this engine can not run here at all."""

    def why_not(self, axis: str, value: Any, host: Host) -> str | None:
        """Why it can not run with this value on this axis."""

    def conflict(self, config: EngineConfig) -> str | None:
        """Why two values of a config can not go together."""

    def refuse_model(self, folder: Path) -> None:
        """Refuses a model that it can not run, as far as that shows before it is loaded."""


def engines() -> tuple[str, ...]:
    """Gives the names of all engines."""
    return tuple(_PACKAGES)


def why_not(engine: str, axis: str | None = None, value: object = None, host: Host | None = None) -> str | None:
    """Gives the reason why an engine can not run here, or not with a value on an axis; None: it can."""
    support = _support(engine)
    return support.missing() if axis is None else support.why_not(axis, value, host or Host.here())


def refuse(config: EngineConfig) -> None:
    """Refuses what can not run here, before anything is started; loads no engine."""
    if reason := why_not(config.engine):
        raise UsageError(f"engine {config.engine!r} can not run here: {reason}")
    host = Host.here()
    for axis in axes():
        value = getattr(config, axis)
        if reason := why_not(config.engine, axis, value, host):
            raise UsageError(f"engine {config.engine!r} can not run with {_told(axis, value)}: {reason}")
    if reason := _support(config.engine).conflict(config):
        raise UsageError(f"engine {config.engine!r} can not run with {reason}")


def model_folder(config: EngineConfig) -> Path:
    """Gives the folder of a config's model, fetched where need be; refuses what its engine can not do with it."""
    folder = resolve(config.model)
    _support(config.engine).refuse_model(folder)
    asked, made_for = config.limits.max_length, described(folder).get("max_position_embeddings")
    if asked and isinstance(made_for, int) and asked > made_for:
        much = f"limits.max_length {asked} is more than the {made_for} tokens that {config.model!r} was made for"
        raise UsageError(f"{much}: lower it, or leave it out")
    return folder


def environment(engine: str) -> dict[str, str]:
    """Gives what an engine's process has in its environment where that says nothing else."""
    return _support(engine).ENVIRONMENT


def _told(axis: str, value: Any) -> str:
    fields = [f"{axis}.{field.name} {getattr(value, field.name)}" for field in dataclasses.fields(value)]
    return ", ".join(fields) or f"{axis} {value.name!r}"


def engine(name: str) -> type[Engine]:
    """Gives the class of an engine."""
    module, _, attribute = _support(name).CLASS.partition(":")
    found: type[Engine] = getattr(import_module(module), attribute)
    return found


def _support(name: str) -> _Support:
    if name not in _PACKAGES:
        raise UsageError(f"there is no engine {name!r}: {nearest(name, _PACKAGES)}")
    return cast(_Support, import_module(f"{_PACKAGES[name]}.support"))
