"""How commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

PIPED_WIDTH = 140  # columns, where stdout is no terminal
GAP = 2  # between columns


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
    """Print a table, whose columns are aligned to the right where their name ends with `>`.

    Where all but the first are, and too wide together, they come in parts below each other: a number is not folded.
    """
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    rows = list(rows)
    first, *others = (_Column(name, [row[place] for row in rows]) for place, name in enumerate(columns))
    for number, part in enumerate(_parts(others, console.width - first.width)):
        if number:
            console.print()
        console.print(_table([first, *part], title if not number else ""))


class _Column:
    """One column, and how wide its cells and the words of its name are."""

    def __init__(self, name: str, cells: list[str]) -> None:
        from rich.cells import cell_len

        self.name, self.cells = name.rstrip(">"), cells
        self.is_right = name.endswith(">")
        lines = [line for cell in cells for line in cell.split("\n")]
        self.width = max(map(cell_len, [*lines, *self.name.split()]), default=0)


def _parts(columns: list[_Column], room: int) -> list[list[_Column]]:
    """The columns that find room beside the first, those that do not, and so on."""
    if not all(column.is_right for column in columns):
        return [columns]
    parts: list[list[_Column]] = [[]]
    for column in columns:
        if parts[-1] and sum(GAP + one.width for one in [*parts[-1], column]) > room:
            parts.append([])
        parts[-1].append(column)
    return parts


def _table(columns: list[_Column], title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, title=title or None, title_justify="left", title_style="bold", pad_edge=False, header_style="dim"
    )
    for column in columns:
        width = column.width if column.is_right else None  # folds a long name rather than what is below it
        table.add_column(column.name, justify="right" if column.is_right else "left", overflow="fold", max_width=width)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def say(line: str = "") -> None:
    """Print a line of text as it is: names and prompts are never markup."""
    print(line, flush=True)
