"""The parameters of a notebook: declared in its tagged cell as `name: type = value  # what it is`, and read by type."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import nbformat

from workbench.config.fields import build, plain
from workbench.errors import UsageError

TYPES: dict[str, type] = {"bool": bool, "float": float, "int": int, "str": str}
TAG = "parameters"


def parameters(path: Path) -> type[Any]:
    """Gives the parameters of a notebook as a dataclass with their types and defaults."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if TAG in cell.metadata.get("tags", ())]
    declared = [statement for cell in cells for statement in ast.parse(cell.source).body]
    return make_dataclass("Parameters", [_field(one) for one in declared if isinstance(one, ast.AnnAssign)])


def _field(declared: ast.AnnAssign) -> tuple[str, type, Any]:
    assert isinstance(declared.target, ast.Name)
    assert declared.value is not None
    return declared.target.id, TYPES[ast.unparse(declared.annotation)], field(default=ast.literal_eval(declared.value))


def chosen(path: Path, settings: Sequence[str]) -> dict[str, object]:
    """Gives the values that texts such as `repeats=3` choose; refuses what the notebook lacks, or other types."""
    known = parameters(path)
    given: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"-p {setting!r} has no value; write name=value: {_told(known)}")
        given[name] = value
    try:
        values = plain(build(known, given, path.stem))
    except UsageError as error:
        raise UsageError(f"{error}; its parameters: {_told(known)}") from None
    return {name: values[name] for name in given}


def _told(known: type[Any]) -> str:
    types = get_type_hints(known)
    return ", ".join(f"{one.name}: {types[one.name].__name__} = {one.default!r}" for one in fields(known))
