"""`workbench axes`: what can be chosen."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from workbench.cli.output import print_json, print_table
from workbench.config import Axis, axes


def configure(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def run(arguments: argparse.Namespace) -> int:
    """List every axis with its question and its values."""
    known = [_describe(axis) for axis in axes().values()]
    if arguments.json:
        print_json(known)
        return 0
    rows = [[axis["name"], axis["question"], "\n".join(_line(value) for value in axis["values"])] for axis in known]
    print_table(["axis", "question", "values, the first by default"], rows)
    return 0


def _describe(axis: Axis) -> dict[str, Any]:
    values = [
        {
            "name": value.name,
            "what": (value.__doc__ or "").splitlines()[0],
            "fields": [field.name for field in dataclasses.fields(value)],
        }
        for value in axis.values
    ]
    return {"name": axis.name, "question": axis.question, "values": values}


def _line(value: dict[str, Any]) -> str:
    fields = f" ({', '.join(value['fields'])})" if value["fields"] else ""
    return f"{value['name']}{fields}: {value['what']}"
