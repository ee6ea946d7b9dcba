"""Frozen dataclasses from what people write, and back. What a class does not have is refused by name, never dropped.

A field's type says how it is read: the same from a JSON number, a YAML file or the text of `--set`.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from contextlib import suppress
from numbers import Integral, Real
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from workbench.errors import UsageError, nearest, short
from workbench.units import number_of

T = TypeVar("T")

MOST_BITS = 64  # of a whole number
CALLED = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "none"}


class Form(Protocol):
    """How a field is read and written where its type alone does not say; lies in the field's metadata as `form`."""

    def read(self, given: object, where: str) -> Any:
        """Gives the field's value from plain data."""

    def write(self, value: Any) -> object:
        """Gives the field's value as plain data."""


def build(cls: type[T], given: object, where: str) -> T:
    """Gives an instance of a dataclass from plain data."""
    if not isinstance(given, Mapping):
        raise UsageError(f"{where} is a mapping of names to values, not {short(given)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in given:
        if key not in fields:
            raise UsageError(f"{where} has no {short(key)}: {nearest(key, fields)}")
    for name, field in fields.items():
        if name not in given and field.default is dataclasses.MISSING:
            raise UsageError(f"{where} needs {name!r}")
    return cls(**{key: read_field(cls, key, value, where) for key, value in given.items()})


def read_field(cls: type, name: str, given: object, where: str) -> Any:
    """Gives the value of one field of a dataclass from plain data."""
    field = cls.__dataclass_fields__[name]  # type: ignore[attr-defined]
    where = f"{where}.{name}"
    form: Form | None = field.metadata.get("form")
    if form:
        return form.read(given, where)
    kind = get_type_hints(cls)[name]
    value = _read(kind, given)
    _refuse(kind, value, where)
    return value


def settle(instance: Any, where: str) -> None:
    """Refuses a dataclass in which a field is not of its type: a program can have put anything there.

    Of a number of NumPy's it makes one of Python's.
    """
    kinds = get_type_hints(type(instance))
    for field in dataclasses.fields(instance):
        kind, value = kinds[field.name], getattr(instance, field.name)
        if _is_number(value):
            object.__setattr__(instance, field.name, value := _read_number(_options(kind), value))
        _refuse(kind, value, f"{where}.{field.name}")


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


def _options(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _read(kind: Any, given: Any) -> Any:
    """The value of a type that plain data stands for; what stands for none stays as it is, and is refused then."""
    kind, *others = options = _options(kind)
    if others and given in (None, "none"):
        return None
    if get_origin(kind) is tuple and isinstance(given, list):
        return tuple(_read(get_args(kind)[0], item) for item in given)
    if _is_number(given):
        return _read_number(options, given)
    if kind is int and isinstance(given, str) and given.strip().isdecimal():
        return number_of(given)
    if kind is float and isinstance(given, str):
        with suppress(ValueError):
            return float(given)
    if kind is bool and given in ("true", "false"):
        return given == "true"
    return given


def _is_number(given: object) -> bool:
    return isinstance(given, Real) and not isinstance(given, bool)


def _read_number(options: tuple[Any, ...], given: Any) -> Any:
    """A number of Python's for one of NumPy's, which no file could hold."""
    if int in options and isinstance(given, Integral):
        return int(given)
    if float in options and not isinstance(given, int):
        with suppress(OverflowError):
            return float(given)
    return given


def _refuse(kind: Any, value: Any, where: str) -> None:
    """Refuses what is no value of a type."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(f"{where} can not be {short(value)}: {nearest(value, get_args(kind))}")
        return
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise UsageError(f"{where} can not be so large: {short(value)}")
    if not any(_fits(option, value) for option in _options(kind)):
        raise UsageError(f"{where} is {' or '.join(map(_called, _options(kind)))}, not {short(value)}")
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            _refuse(get_args(kind)[0], item, f"{where}[{index}]")


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a type; a truth is no number, a whole number is one, and what is infinite is none."""
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, get_origin(kind) or kind)


def _called(kind: Any) -> str:
    name = (get_origin(kind) or kind).__name__
    return CALLED.get(kind, f"a {name}")
