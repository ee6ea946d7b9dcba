"""Plain data from what people write, as YAML or JSON. A name that is there twice is refused: the parsers drop one."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from workbench.errors import UsageError


def from_yaml(text: str) -> object:
    """Gives what a YAML text describes."""
    with _in_one_line("YAML"):
        return yaml.load(text, _EachOnce)


def from_json(text: str) -> object:
    """Gives what a JSON text describes."""
    with _in_one_line("JSON"):
        return json.loads(text, object_pairs_hook=_each_once)


@contextmanager
def _in_one_line(kind: str) -> Iterator[None]:
    """Turns what a parser raises in the block into one clear line."""
    try:
        yield
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise UsageError(f"not {kind}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UsageError(f"not {kind} that can be read: it is nested too deeply") from error
    except (ValueError, KeyError) as error:  # both let through what Python says of a single value
        what = str(error).partition(";")[0]  # without what a programmer could do about it
        raise UsageError(f"not {kind} that can be read: a value in it can not be: {what}") from error


class _EachOnce(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _each_once([(name.value, None) for name, _ in node.value if isinstance(name, yaml.ScalarNode)])
        return super().construct_mapping(node, deep)


# Nothing here is a date: what looks like one is a text.
_EachOnce.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"{name!r} is given twice: leave one of them out")
        found[name] = value
    return found
