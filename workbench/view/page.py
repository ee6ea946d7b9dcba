"""A run, or some compared, as one HTML file: zoomable, without a network or a kernel, and small whatever their size."""

from __future__ import annotations

import html
import json
import zlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from workbench.compare.ranking import BY as RANKED_BY
from workbench.errors import RunError
from workbench.run.columns import codes, numbers
from workbench.view.allocations import NEVER
from workbench.view.bands import BY
from workbench.view.comparison_screen import ComparisonScreen
from workbench.view.crossing import Answer
from workbench.view.screen import Screen
from workbench.view.script import script, style

LARGEST = 2 << 20  # bytes of a page, for each run in it
OVERVIEW = 600  # columns of what is painted first
PIECES = "<!--pieces-->"
GROUND = """body { margin: 0; color-scheme: light dark; }
html:has([data-theme="light"]) { background: #ffffff; }
html:has([data-theme="dark"]) { background: #15181c; }"""
"""Around a view as in it, whatever the theme of the system is."""
Parts = dict[str, Answer]


@dataclass(frozen=True)
class Detail:
    """How much of a run is embedded."""

    columns: int  # of the run's time
    allocations: int  # of each tier, the largest
    boxes: int  # columns of the addresses over time


DETAILS = tuple(Detail(16384 >> n, 4096 >> n, 2048 >> n) for n in range(8))
"""The most is tried first; the first that fits is taken."""


def write(text: str, path: str | Path) -> Path:
    """Write a page; returns where it is."""
    target = Path(path)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{target} can not be written: {error.strerror or error}; choose another path") from None
    return target


def page(
    screen: Screen,
    largest: int = LARGEST,
    tiers: Sequence[str] | None = None,
    details: Sequence[Detail] = DETAILS,
    **options: Any,
) -> str:
    """The page of these tiers, by default all, with as much detail as fits into so many bytes."""
    chosen = _known(screen.tiers, tiers)
    parts = (_run_parts(screen, chosen, detail) for detail in details)
    return _fitting(_frame(screen.run.manifest.name, "page", options), parts, largest)


def comparison_page(
    screen: ComparisonScreen,
    largest: int = LARGEST,
    tiers: Sequence[str] | None = None,
    details: Sequence[Detail] = DETAILS,
    **options: Any,
) -> str:
    """The page of compared runs, in as many bytes as `largest` is for each of them."""
    chosen = _known(screen.tiers, tiers)
    fixed = comparison_parts(screen, chosen)
    parts = (fixed | _compared_parts(screen, chosen, detail) for detail in details)
    title = " and ".join(way.name for way in screen.ways)
    return _fitting(_frame(title, "comparison_page", options), parts, largest * len(screen.runs))


def _known(tiers: Sequence[str], chosen: Sequence[str] | None) -> list[str]:
    return [tier for tier in tiers if chosen is None or tier in chosen]


def _frame(title: str, entry: str, options: dict[str, Any]) -> str:
    known = json.dumps(options).replace("<", "\\u003c")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}: memory</title>\n'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">\n'
        f"<style>{GROUND}\n{style()}</style></head>\n"
        f'<body><main id="place"></main>\n<script type="application/json" id="options">{known}</script>\n'
        f'{PIECES}<script type="module">\n{script(entry)}</script></body></html>\n'
    )


def _fitting(frame: str, tries: Iterable[Parts], largest: int) -> str:
    """The frame with the first of these parts that fit into so many bytes."""
    for parts in tries:
        text = frame.replace(PIECES, "".join(_piece(name, answer) for name, answer in parts.items()), 1)
        if len(text.encode()) <= largest:
            return text
    raise RunError(f"the page can not be shown in {largest} bytes: it has too many phases or owners")


def _piece(name: str, answer: Answer) -> str:
    packed = b64encode(zlib.compress(answer.packed(), 6)).decode()
    return f'<script type="application/octet-stream" data-piece="{html.escape(name)}">{packed}</script>\n'


def comparison_parts(screen: ComparisonScreen, tiers: list[str]) -> Parts:
    """What a page needs of all runs together."""
    head = screen.head()
    parts = {
        "comparison": Answer({**head.facts, "tiers": tiers}, head.columns),
        "speeds": screen.answer({"ask": "speeds"}),
    }
    for tier, by, way in product(tiers, RANKED_BY, range(1, len(screen.ways))):
        parts[f"deltas {tier} {by} {way}"] = screen.deltas({"tier": tier, "by": by, "way": way})
    return parts


def _compared_parts(screen: ComparisonScreen, tiers: list[str], detail: Detail) -> Parts:
    """The parts of every run, named after its place."""
    return {
        f"{place} {name}": answer
        for place, one in enumerate(screen.screens)
        for name, answer in _run_parts(one, _known(one.tiers, tiers), detail).items()
    }


def _run_parts(screen: Screen, tiers: list[str], detail: Detail) -> Parts:
    head = screen.head()
    parts = {"run": Answer({**head.facts, "tiers": tiers}, head.columns)}
    listed: set[int] = set()
    for tier in tiers:
        for by in BY:
            whole = {"tier": tier, "by": by, "start": 0, "end": screen.end_ns}
            parts[f"overview {tier} {by}"] = screen.series({**whole, "columns": OVERVIEW})
            parts[f"series {tier} {by}"] = screen.series({**whole, "columns": detail.columns})
            boxes = {**whole, "columns": detail.boxes, "rows": 400}
            answer = screen.addresses(boxes)
            parts[f"addresses {tier} {by}"] = Answer({**answer.facts, "columnsAsked": detail.boxes}, answer.columns)
        allocations = _allocations(screen, tier, detail.allocations)
        parts[f"allocations {tier}"] = allocations
        listed |= set(np.asarray(allocations.columns["stack"]).tolist())
    parts["stacks"] = _stacks(screen, sorted(listed - {0}))
    return parts


def _allocations(screen: Screen, tier: str, most: int) -> Answer:
    """The largest allocations of a tier: as many of every owner and tag."""
    found = screen.allocations_of(tier)
    chosen = found.largest_of_each_key(most)
    events = screen.placed.take(found.rows[chosen])
    owners, owner_texts = codes(events, "owner")
    tags, tag_texts = codes(events, "tag")
    ends = found.ends[chosen]
    columns: dict[str, Any] = {
        "start": found.starts[chosen],
        "end": np.where(ends == NEVER, np.nan, ends.astype(np.float64)),
        "bytes": found.bytes[chosen],
        "stack": found.stacks[chosen].astype(np.int32),
        "owner": [owner_texts[one] or "" for one in owners],
        "tag": [tag_texts[one] or "" for one in tags],
        "address": [f"{int(one):#x}" for one in numbers(events, "address")],
        "process": numbers(events, "process").astype(np.int32),
    }
    for by in BY:
        names = {key: band.name for band in screen.bands(tier, by).bands for key in band.keys}
        columns[f"band by {by}"] = [names[key] for key in found.keys[chosen].tolist()]
    return Answer({"known": len(found.rows)}, columns)


def _stacks(screen: Screen, stacks: list[int]) -> Answer:
    """The frames of these stacks, each text once: those of a stack end at `until`, innermost first."""
    texts: dict[str, int] = {}
    coded = [[texts.setdefault(frame, len(texts)) for frame in screen.frames.of(stack)] for stack in stacks]
    counts = np.array([len(one) for one in coded], dtype=np.int32)
    columns: dict[str, Any] = {
        "stack": np.array(stacks, dtype=np.int32),
        "count": counts,
        "until": np.cumsum(counts, dtype=np.int32),
        "code": np.array([code for one in coded for code in one], dtype=np.int32),
        "text": list(texts),
    }
    return Answer({}, columns)
