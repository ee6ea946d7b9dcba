"""What a study found, as a notebook shows it: the answer, a table of the numbers, and both as plain data."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.studies.telling import amount

if TYPE_CHECKING:
    from workbench.studies.base import Findings, Outcome

DATA = "application/vnd.workbench.findings+json"
"""The type of the output that programs read."""
HERE = "<p>Not run here: {}: {}</p>"
Table = list[list[str]]


def bundle(findings: Findings) -> dict[str, Any]:
    """The output of a cell, by type."""
    return {"text/plain": text(findings), "text/html": html(findings), DATA: findings.document()}


def text(findings: Findings) -> str:
    """The question and its answer."""
    return "\n".join([findings.study.question, *(f"  {sentence}." for sentence in findings.answer)])


def html(findings: Findings) -> str:
    """Question, answer, numbers, and what was not run here with the reason."""
    sentences = "".join(f"<li>{escape(sentence)}.</li>" for sentence in findings.answer) or "<li>There is no run.</li>"
    head = f"<p><strong>{escape(findings.study.question)}</strong></p><ul>{sentences}</ul>"
    left_out = "".join(HERE.format(escape(", ".join(names)), escape(why)) for why, names in _missing(findings).items())
    return f'<div style="max-width:100%;overflow-x:auto">{head}{_table(_rows(findings))}{left_out}</div>'


def _missing(findings: Findings) -> dict[str, list[str]]:
    """The variants of each reason."""
    found: dict[str, list[str]] = {}
    for outcome in findings.outcomes:
        if outcome.why:
            found.setdefault(outcome.why, []).append(outcome.variant.name)
    return found


def _rows(findings: Findings) -> Table:
    """A row a variant, a column a measure; the other way where there are more measures than variants."""
    outcomes = [outcome for outcome in findings.outcomes if outcome.runs]
    numbers = [findings.numbers(outcome) for outcome in outcomes]
    fullest_first = sorted(numbers, key=len, reverse=True)  # in whose order the measures stand
    measures = list(dict.fromkeys(name for one in fullest_first for name in one))
    rows = [["", "recorded on", *(_said(name) for name in measures)]]
    rows += [
        [outcome.variant.name, _where(outcome), *(_cell(one.get(name)) for name in measures)]
        for outcome, one in zip(outcomes, numbers, strict=True)
    ]
    return [list(column) for column in zip(*rows, strict=True)] if len(measures) > len(outcomes) else rows


def _said(measure: str) -> str:
    """What is measured; its unit stands at every number."""
    return re.sub("(_per)?_s$", "", measure).replace("_", " ")


def _where(outcome: Outcome) -> str:
    return f"{outcome.machine}\n{len(outcome.runs)} run{'s' * (len(outcome.runs) != 1)}"


def _cell(number: dict[str, Any] | None) -> str:
    """The median, and below it the least and the most where repeats differ."""
    if number is None:
        return ""
    amounts = (amount(number[name], number["unit"]) for name in ("least", "median", "most"))
    least, median, most = (one.replace(" ", "\N{NO-BREAK SPACE}") for one in amounts)
    return median if least == most else f"{median}\n{least} to {most}"


def _table(rows: Table) -> str:
    if len(rows) < 2:
        return ""
    head, *body = ("".join(f"<{tag}>{_two_lines(cell)}</{tag}>" for cell in row) for tag, row in _tagged(rows))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>"


def _two_lines(cell: str) -> str:
    first, _, second = cell.partition("\n")
    return escape(first) + (f"<br><small>{escape(second)}</small>" if second else "")


def _tagged(rows: Table) -> list[tuple[str, list[str]]]:
    return [("th" if place == 0 else "td", row) for place, row in enumerate(rows)]
