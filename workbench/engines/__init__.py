"""What is observed: engines by name, imported only when one is asked for."""

from __future__ import annotations

from importlib import import_module

from workbench.engines.base import Engine, Token
from workbench.errors import UsageError, nearest

__all__ = ["Engine", "Token", "engine", "engines"]

_CLASSES = {
    "transformers": "workbench.engines.transformers:TransformersEngine",
}


def engines() -> tuple[str, ...]:
    """Gives the names of all engines."""
    return tuple(_CLASSES)


def require(name: str) -> None:
    """Refuses an engine that there is not; loads none."""
    if name not in _CLASSES:
        raise UsageError(f"there is no engine {name!r}: {nearest(name, _CLASSES)}")


def engine(name: str) -> type[Engine]:
    """Gives the class of an engine."""
    require(name)
    module, _, attribute = _CLASSES[name].partition(":")
    found: type[Engine] = getattr(import_module(module), attribute)
    return found
