"""Plain data from what people write, as YAML or JSON. A name that is there twice is refused: the parsers drop one."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

import yaml

from workbench.errors import UsageError


def from_yaml(text: str) -> object:
    """Gives what a YAML text describes."""
    try:
        return yaml.load(text, _EachOnce)
    except yaml.YAMLError as error:
        raise UsageError(f"not YAML: {' '.join(str(error).split())}") from error


def from_json(text: str) -> object:
    """Gives what a JSON text describes."""
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        raise UsageError(f"not JSON: {error}") from error


class _EachOnce(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _each_once([(name.value, None) for name, _ in node.value if isinstance(name, yaml.ScalarNode)])
        return super().construct_mapping(node, deep)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"{name!r} is given twice: leave one of them out")
        found[name] = value
    return found
