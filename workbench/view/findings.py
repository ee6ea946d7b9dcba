"""What a study found, as a notebook shows it: the answer, a table of the numbers, and both as plain data."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.studies.base import HERE
from workbench.studies.telling import amount, between

if TYPE_CHECKING:
    from workbench.studies.base import Findings, Outcome

DATA = "application/vnd.workbench.findings+json"
"""The type of the output that programs read."""
NOISE = "noise: no further from the variant that it is compared with than repeats of one variant are apart"
Table = list[list[str]]


def bundle(findings: Findings) -> dict[str, Any]:
    """The output of a cell, by type."""
    return {"text/plain": text(findings), "text/html": html(findings), DATA: findings.document()}


def text(findings: Findings) -> str:
    """The question and its answer."""
    return "\n".join([findings.study.question, *(f"  {sentence}." for sentence in findings.answer)])


def html(findings: Findings) -> str:
    """Question, answer, numbers, and what failed or was not run here, with the reason."""
    sentences = "".join(f"<li>{escape(sentence)}.</li>" for sentence in findings.answer) or "<li>There is no run.</li>"
    head = f"<p><strong>{escape(findings.study.question)}</strong></p><ul>{sentences}</ul>"
    left_out = "".join(f"<p>Not run here: {escape(reason)}</p>" for reason in not_run(findings))
    failures = "".join(f"<p>{escape(reason)}</p>" for reason in failed(findings))
    rows = table(findings)
    legend = f"<p><small>{escape(NOISE)}</small></p>" if has_noise(rows) else ""
    return f'<div style="max-width:100%;overflow-x:auto">{head}{_table(rows)}{legend}{failures}{left_out}</div>'


def has_noise(rows: Table) -> bool:
    """Whether a cell of the table says so."""
    return any(cell.endswith("noise") for row in rows for cell in row)


def not_run(findings: Findings) -> list[str]:
    """By reason, the variants that were not run here."""
    return _by_reason(findings, lambda outcome: outcome.why)


def failed(findings: Findings) -> list[str]:
    """By how often and of what, the variants that failed here."""
    return _by_reason(findings, lambda outcome: outcome.failed)


def _by_reason(findings: Findings, reason: Callable[[Outcome], str | None]) -> list[str]:
    here = [outcome for outcome in findings.outcomes if outcome.where == HERE]
    found: dict[str, list[str]] = {}
    for outcome in here:
        if why := reason(outcome):
            found.setdefault(why, []).append(outcome.variant.name)
    all_of_them = f"all {len(here)} variants"
    return [f"{', '.join(names) if len(names) < len(here) else all_of_them}: {why}" for why, names in found.items()]


def table(findings: Findings) -> Table:
    """A row a variant, a column a measure; the other way where there are more measures than variants.

    A cell's second line is the spread of the repeats, whether it makes noise of the difference, and how many have it.
    """
    outcomes = [outcome for outcome in findings.outcomes if outcome.runs]
    numbers = [findings.numbers(outcome) for outcome in outcomes]
    fullest_first = sorted(numbers, key=len, reverse=True)  # in whose order the measures stand
    measures = list(dict.fromkeys(name for one in fullest_first for name in one))
    places = [_where(outcome) for outcome in outcomes]
    is_one = len(set(places)) == 1  # then the corner says it, and not every row
    rows = [[*([places[0]] if is_one else ["", "recorded on"]), *(_said(name) for name in measures)]]
    for outcome, where, one in zip(outcomes, places, numbers, strict=True):
        cells = [_cell(one.get(name), len(outcome.runs)) for name in measures]
        rows.append([outcome.variant.name, *([] if is_one else [where]), *cells])
    return [list(column) for column in zip(*rows, strict=True)] if len(measures) > len(outcomes) else rows


def _said(measure: str) -> str:
    """What is measured; its unit stands at every number."""
    return re.sub("(_per)?_s$", "", measure).replace("_", " ")


def _where(outcome: Outcome) -> str:
    return f"{outcome.machine}\n{len(outcome.runs)} run{'s' * (len(outcome.runs) != 1)}"


def _cell(number: dict[str, Any] | None, runs: int) -> str:
    """The median, and below it the least and the most where repeats differ, and in how many it is where not in all."""
    if number is None:
        return ""
    unit, noise = number["unit"], ", noise" if number.get("is_noise") else ""
    median, spread = amount(number["median"], unit), between([number["least"], number["most"]], unit)
    below = [f"{spread}{noise}"] if spread != median else []
    if number["runs"] < runs:
        below.insert(0, f"in {number['runs']} of {runs} runs")
    return "\n".join([median, ", ".join(below)] if below else [median]).replace(" ", "\N{NO-BREAK SPACE}")


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
