"""How tables are printed: whole numbers and names, in parts where they are too wide."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from workbench.cli import output
from workbench.cli.output import print_table

NAMES = ["", "first one>", "second>", "third>"]
ROWS = [["per-transfer-1000-4KiB", "1.00 us", "20.0 ms", "3.00 MiB"], ["bounded-1-4KiB", "7.00 us", "", "0 B"]]


Printed = Callable[[int, list[str], list[list[str]]], list[str]]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    def of(width: int, columns: list[str], rows: list[list[str]]) -> list[str]:
        monkeypatch.setattr(output, "PIPED_WIDTH", width)
        print_table(columns, rows)
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return of


def test_a_long_name_of_a_column_is_folded_before_what_is_in_it(printed: Printed) -> None:
    assert printed(54, NAMES, ROWS) == [
        "                          first",
        "                            one   second     third",
        "per-transfer-1000-4KiB  1.00 us  20.0 ms  3.00 MiB",
        "bounded-1-4KiB          7.00 us                0 B",
    ]


def test_numbers_that_find_no_room_come_below_each_other(printed: Printed) -> None:
    assert printed(42, NAMES, ROWS) == [
        "                          first",
        "                            one   second",
        "per-transfer-1000-4KiB  1.00 us  20.0 ms",
        "bounded-1-4KiB          7.00 us",
        "",
        "                           third",
        "per-transfer-1000-4KiB  3.00 MiB",
        "bounded-1-4KiB               0 B",
    ]


def test_text_is_folded_where_it_is(printed: Printed) -> None:
    lines = printed(22, ["what", "why"], [["host", "what it can not see here"]])
    assert lines == ["what  why", "host  what it can not", "      see here"]


def test_a_table_without_rows_has_its_head(printed: Printed) -> None:
    assert printed(40, NAMES[:2], []) == ["  first", "    one"]
