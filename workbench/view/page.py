"""A run as one HTML file: zoomable, without a network or a kernel, and small whatever the run's size."""

from __future__ import annotations

import html
import json
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import RunError
from workbench.run.columns import codes, numbers
from workbench.run.run import Run
from workbench.view.allocations import NEVER
from workbench.view.bands import BY
from workbench.view.crossing import Answer
from workbench.view.screen import Screen
from workbench.view.script import script, style

LARGEST = 2 << 20  # bytes of a page
OVERVIEW = 600  # columns of what is painted first


@dataclass(frozen=True)
class Detail:
    """How much of a run is embedded."""

    columns: int  # of the run's time
    allocations: int  # of each tier, the largest
    boxes: int  # columns of the addresses over time


DETAILS = tuple(Detail(16384 >> n, 4096 >> n, 2048 >> n) for n in range(8))
"""The most is tried first; the first that fits is taken."""


def write_page(run: Run, path: str | Path) -> Path:
    """Write the page of a run; returns where it is."""
    target = Path(path)
    text = page(Screen(run))
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
    fixed = _frame(screen, options)
    for detail in details:
        pieces = "".join(_pieces(screen, screen.tiers if tiers is None else list(tiers), detail))
        text = fixed.replace("<!--pieces-->", pieces)
        if len(text.encode()) <= largest:
            return text
    raise RunError(f"{screen.run.id} can not be shown in {largest} bytes")


def _frame(screen: Screen, options: dict[str, Any]) -> str:
    title = html.escape(f"{screen.run.manifest.name}: memory")
    known = json.dumps(options).replace("<", "\\u003c")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">\n'
        f"<style>body {{ margin: 0; color-scheme: light dark; }}\n{style()}</style></head>\n"
        f'<body><main id="place"></main>\n<script type="application/json" id="options">{known}</script>\n'
        f'<!--pieces--><script type="module">\n{script("page")}</script></body></html>\n'
    )


def _pieces(screen: Screen, tiers: list[str], detail: Detail) -> list[str]:
    head = screen.head()
    known = [tier for tier in head.facts["tiers"] if tier in tiers]
    parts = {"run": Answer({**head.facts, "tiers": known}, head.columns)}
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
    return [_piece(name, answer) for name, answer in parts.items()]


def _piece(name: str, answer: Answer) -> str:
    packed = b64encode(zlib.compress(answer.packed(), 6)).decode()
    return f'<script type="application/octet-stream" data-piece="{name}">{packed}</script>\n'


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
