"""How commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

PIPED_WIDTH = 140  # columns, where stdout is no terminal


def print_json(document: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(_without_nan(document), indent=1, allow_nan=False))


def print_line(document: dict[str, Any]) -> None:
    """Print one JSON object on a line: the last line of commands that make a run."""
    print(json.dumps(_without_nan(document), allow_nan=False), flush=True)


def _without_nan(data: Any) -> Any:
    """The same with none where a number is none: JSON has no NaN."""
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table; columns whose name ends with `>` are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, title=title or None, title_justify="left", title_style="bold", pad_edge=False, header_style="dim"
    )
    for name in columns:
        table.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def say(line: str = "") -> None:
    """Print a line of text as it is: names and prompts are never markup."""
    print(line, flush=True)
