"""What a panel lets one choose: derived from the config's own declaration, with the reason where this host can not."""

from __future__ import annotations

import dataclasses
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from workbench.config import Axis, EngineConfig, axes
from workbench.config.fields import plain
from workbench.config.models import MODELS, shapes
from workbench.engines import Host, engines, refuse, why_not
from workbench.errors import UsageError
from workbench.units import shown

Control = dict[str, Any]
"""`name` as in `with_setting`, `value` as people write it, and `options` or what kind of text it is."""


def form(config: EngineConfig) -> dict[str, Any]:
    """Gives the groups of controls of a config, and why it can not run here as it is."""
    host = Host.here()
    groups = [_engine_group(config)]
    groups += [_axis_group(config, axis, host) for axis in axes().values()]
    return {"groups": [group for group in groups if group["controls"]], "refused": _refused(config)}


def _refused(config: EngineConfig) -> str | None:
    try:
        refuse(config)
    except UsageError as error:
        return str(error)
    return None


def _engine_group(config: EngineConfig) -> dict[str, Any]:
    """Engine, model, and what else of a config is no axis."""
    controls = [_choice("engine", config.engine, [(name, why_not(name), "") for name in engines()])]
    controls.append({**_text("model", config.model), "suggestions": [*MODELS, *shapes()]})
    own = [field.name for field in dataclasses.fields(config) if field.name not in {*axes(), "engine", "model"}]
    controls += [_of_field(name, getattr(config, name), get_type_hints(EngineConfig)[name]) for name in own]
    return {"name": "engine", "question": "What runs which model?", "controls": controls}


def _axis_group(config: EngineConfig, axis: Axis, host: Host) -> dict[str, Any]:
    value = getattr(config, axis.name)
    controls = []
    if len(axis.values) > 1:
        options = [(one.name, why_not(config.engine, axis.name, one(), host), _what(one)) for one in axis.values]
        controls.append(_choice(axis.name, value.name, options))
    hints = get_type_hints(type(value))
    controls += [_of_field(f"{axis.name}.{name}", given, hints[name]) for name, given in plain(value).items()]
    return {"name": axis.name, "question": axis.question, "controls": controls}


def _what(value: type[Any]) -> str:
    return (value.__doc__ or "").splitlines()[0]


def _of_field(name: str, value: object, kind: Any) -> Control:
    if get_origin(kind) is Literal:
        return _choice(name, str(value), [(option, None, "") for option in get_args(kind)])
    if kind is bool:
        return _choice(name, str(value).lower(), [("true", None, ""), ("false", None, "")])
    is_optional = NoneType in get_args(kind)
    is_number = {int, float} & {kind, *get_args(kind)}
    return {**_text(name, value), "empty": "none" if is_optional else None, "number": bool(is_number)}


def _choice(name: str, value: str, options: list[tuple[str, str | None, str]]) -> Control:
    described = [{"name": option, "why_not": reason, "what": what} for option, reason, what in options]
    return {"name": name, "value": value, "options": described}


def _text(name: str, value: object) -> Control:
    return {"name": name, "value": "" if value is None else shown(value)}
