"""Frozen dataclasses from what people write, and back. What a class does not have is refused by name, never dropped.

A field's type says how it is read: the same from a JSON number, a YAML file or the text of `--set`.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from workbench.errors import UsageError, nearest

T = TypeVar("T")


class Form(Protocol):
    """How a field is read and written where its type alone does not say; lies in the field's metadata as `form`."""

    def read(self, given: object, where: str) -> Any:
        """Gives the field's value from plain data."""

    def write(self, value: Any) -> object:
        """Gives the field's value as plain data."""


def build(cls: type[T], given: Mapping[str, object], where: str) -> T:
    """Gives an instance of a dataclass from plain data."""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in given:
        if key not in fields:
            raise UsageError(f"{where} has no {key!r}: {nearest(str(key), fields)}")
    for name, field in fields.items():
        if name not in given and field.default is dataclasses.MISSING:
            raise UsageError(f"{where} needs {name!r}")
    return cls(**{key: read_field(cls, key, value, where) for key, value in given.items()})


def read_field(cls: type, name: str, given: object, where: str) -> Any:
    """Gives the value of one field of a dataclass from plain data."""
    field = cls.__dataclass_fields__[name]  # type: ignore[attr-defined]
    where = f"{where}.{name}"
    form: Form | None = field.metadata.get("form")
    return form.read(given, where) if form else _read(get_type_hints(cls)[name], given, where)


def plain(instance: Any) -> dict[str, object]:
    """Gives a dataclass as plain data that JSON and YAML can hold, and `build` reads back to an equal one."""
    return {
        field.name: _write(getattr(instance, field.name), field.metadata.get("form"))
        for field in dataclasses.fields(instance)
    }


def _write(value: Any, form: Form | None) -> object:
    if form:
        return form.write(value)
    return list(value) if isinstance(value, tuple) else value


def _read(kind: Any, given: object, where: str) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        if given in (None, "none"):
            return None
        (kind,) = (option for option in get_args(kind) if option is not types.NoneType)
    if get_origin(kind) is Literal:
        return _one_of(get_args(kind), given, where)
    if get_origin(kind) is tuple:
        return _several(get_args(kind)[0], given, where)
    return _READERS[kind](given, where)


def _one_of(names: tuple[str, ...], given: object, where: str) -> str:
    if given not in names:
        raise UsageError(f"{where} can not be {given!r}: {nearest(str(given), names)}")
    return str(given)


def _several(kind: Any, given: object, where: str) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple):
        raise UsageError(f"{where} is a list, not {given!r}")
    return tuple(_read(kind, item, f"{where}[{index}]") for index, item in enumerate(given))


def _text(given: object, where: str) -> str:
    if not isinstance(given, str):
        raise UsageError(f"{where} is a text, not {given!r}")
    return given


def _integer(given: object, where: str) -> int:
    if isinstance(given, str) and given.strip().isdecimal():
        return int(given)
    if not isinstance(given, int) or isinstance(given, bool):
        raise UsageError(f"{where} is a whole number, not {given!r}")
    return given


def _number(given: object, where: str) -> float:
    try:
        number = math.nan if isinstance(given, bool) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{where} is a number, not {given!r}")
    return number


def _truth(given: object, where: str) -> bool:
    if isinstance(given, bool):
        return given
    if given in ("true", "false"):
        return given == "true"
    raise UsageError(f"{where} is true or false, not {given!r}")


_READERS: dict[type, Callable[[object, str], Any]] = {str: _text, int: _integer, float: _number, bool: _truth}
