"""What stays of a view where no kernel runs: a picture as SVG, a few lines of text, and a small page to zoom in."""

from __future__ import annotations

import html
from base64 import b64encode
from itertools import pairwise
from typing import Any

import numpy as np

from workbench.run.columns import numbers
from workbench.units import SECOND, format_bytes
from workbench.view.bands import is_unused
from workbench.view.colours import colour_of
from workbench.view.comparison_screen import ComparisonScreen
from workbench.view.page import Detail, comparison_page, page
from workbench.view.screen import Screen

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 330, 70, 26, 62
LARGEST_PAGE = 400 << 10  # bytes, in a saved notebook
LARGEST_COMPARED = 250 << 10  # bytes of each compared run
SMALL = tuple(Detail(2048 >> n, 512 >> n, 1024 >> n) for n in range(6))


def bundle(screen: Screen, tier: str, by: str, name: str) -> dict[str, Any]:
    """The output of a cell by type: what a viewer can not run, it shows as a picture or as text."""
    words, picture = text(screen, tier), svg(screen, tier, by)
    zoomable = page(screen, LARGEST_PAGE, [tier], SMALL, by=by)
    shown = _shown(name, screen.run.manifest.name, _image(words, picture), zoomable)
    return {"text/plain": words, "image/svg+xml": picture, "text/html": shown}


def comparison_bundle(screen: ComparisonScreen, tier: str, name: str) -> dict[str, Any]:
    """The output of a cell that compares runs: what differs in words, and a picture of each, one below the other."""
    words, picture = comparison_text(screen, tier), comparison_svg(screen, tier)
    zoomable = comparison_page(screen, LARGEST_COMPARED, [tier], SMALL)
    still = f"<pre>{html.escape(words)}</pre>{_image(words, picture)}"
    shown = _shown(name, "compared runs", still, zoomable)
    return {"text/plain": words, "image/svg+xml": picture, "text/html": shown}


def _shown(name: str, title: str, still: str, zoomable: str) -> str:
    """What a page shows: the still, until the zoomable page beside it has come up, where a viewer lets it."""
    return (
        f'<div data-workbench-static="{name}">{without_error(name)}<div>{still}</div>'
        f'<iframe title="{html.escape(title)}" hidden srcdoc="{html.escape(zoomable)}" '
        'style="width:100%;height:620px;border:0" '
        "onload=\"this.hidden=false;this.previousElementSibling.style.display='none'\"></iframe></div>"
    )


def without_error(name: str) -> str:
    """Hides what JupyterLab says of the widget before this while it has none: that it found no model of it."""
    output, text_alone = ".jp-OutputArea-child", ".jp-OutputArea-output.jupyter-widgets:not(:has(*))"
    return f'<style>{output}:has(+ {output} [data-workbench-static="{name}"]) {text_alone} {{ display: none }}</style>'


def _image(words: str, picture: str) -> str:
    source = b64encode(picture.encode()).decode()
    return f'<img alt="{html.escape(words)}" src="data:image/svg+xml;base64,{source}" style="max-width:100%">'


def comparison_text(screen: ComparisonScreen, tier: str) -> str:
    """What sets the ways apart, the largest of every way, in lines."""
    lines = [f"{way.name}: {', '.join(screen.machines(way))}" for way in screen.ways]
    for way in range(1, len(screen.ways)):
        lines.append(f"{tier}: {screen.ways[way].name} against {screen.ways[0].name}")
        columns = screen.deltas({"tier": tier, "by": "owner", "way": way}).columns
        for what, base, other, is_noise in zip(
            *(columns[one] for one in ("what", "base", "other", "is_noise")), strict=True
        ):
            noise = "  (noise)" if is_noise else ""
            lines.append(f"  {what}: {format_bytes(int(base))} to {format_bytes(int(other))}{noise}")
    return "\n".join(lines[:40])


def text(screen: Screen, tier: str) -> str:
    """The run in a few lines."""
    peak = screen.run.timeline(tier).peak
    ledger = screen.run.ledger(tier)
    held = ", ".join(f"{owner} {format_bytes(size)}" for owner, size in list(ledger.by_owner().items())[:6])
    return (
        f"{screen.run.id}: {tier}: at most {format_bytes(peak.bytes)} handed out, at {peak.time_ns / SECOND:.3f} s\n"
        f"at {ledger.time_ns / SECOND:.3f} s: {held}"
    )


def svg(screen: Screen, tier: str, by: str) -> str:
    """Stacked bytes over time as a small SVG, with phases and a legend."""
    parts, height = _picture(screen, tier, by, screen.run.manifest.name, _highest(screen, tier))
    return _svg(parts, height)


def comparison_svg(screen: ComparisonScreen, tier: str) -> str:
    """The pictures of compared runs one below the other, all to one scale."""
    highest = max(_highest(one, tier) for one in screen.screens)
    parts, below = [], 0
    for one in screen.screens:
        title = f"{one.run.manifest.name} · {one.run.manifest.machine}"
        picture, height = _picture(one, tier, "owner", title, highest)
        parts.append(f'<g transform="translate(0 {below})">{picture}</g>')
        below += height + 14
    return _svg("".join(parts), below)


def _svg(body: str, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" role="img">'
        f'<rect width="100%" height="100%" fill="white"/>{body}</svg>'
    )


def _highest(screen: Screen, tier: str) -> int:
    return max(screen.bands(tier, "owner").total.peak, 1)


def _picture(screen: Screen, tier: str, by: str, title: str, highest: int) -> tuple[str, int]:
    """The bands of a run up to so many bytes; and how high that is."""
    bands, end, top = screen.bands(tier, by), max(screen.end_ns, 1), highest * 1.05
    samples = bands.sample(0, end, WIDTH - LEFT)
    x = LEFT + samples.times_ns / end * (WIDTH - LEFT - 10)
    parts, below = [], np.zeros(len(x))
    for band, values in zip(bands.bands, samples.bytes, strict=True):
        above = below + values
        parts.append(_area(x, below / top, above / top, colour_of(band.name).light, is_unused(band.name)))
        below = above
    name = _text(8, 17, title, "600 14px")
    body = "".join([name, *_phases(screen, end), *_axis(top, end), *parts, *_legend(screen, tier, by)])
    return body, HEIGHT + 22 * -(-len(bands.bands) // 4)


def _y(share: Any) -> Any:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _area(x: Any, below: Any, above: Any, colour: str, is_faint: bool) -> str:
    """A band, whose edges go in steps and end at the right of the picture."""
    edge = np.append(x, WIDTH - 10)
    across = np.repeat(edge, 2)[1:-1]
    upper, lower = np.repeat(_y(above), 2), np.repeat(_y(below), 2)
    points = [f"{a:.1f},{b:.1f}" for a, b in zip(across, upper, strict=True)]
    points += [f"{a:.1f},{b:.1f}" for a, b in zip(across[::-1], lower[::-1], strict=True)]
    different = (point for last, point in pairwise(["", *points]) if point != last)
    opacity = ' fill-opacity="0.45"' if is_faint else ""
    return f'<path d="M{"L".join(different)}Z" fill="{colour}"{opacity}/>'


def _phases(screen: Screen, end: int) -> list[str]:
    phases = screen.run.table("phases")
    starts, depths = numbers(phases, "start_ns"), numbers(phases, "depth")
    ends = [end if one is None else one for one in phases["end_ns"].to_pylist()]
    parts = []
    for name, start, stop, depth in zip(phases["name"].to_pylist(), starts, ends, depths, strict=True):
        left, right = (LEFT + at / end * (WIDTH - LEFT - 10) for at in (start, stop))
        if depth > 1 or right - left < 1:
            continue
        y = 24 + 18 * depth
        parts.append(f'<rect x="{left:.1f}" y="{y}" width="{right - left - 1:.1f}" height="16" fill="#e8ebef"/>')
        if right - left > 7.5 * len(name) + 8:
            parts.append(_text(left + 4, y + 12, name, "11px"))
    return parts


def _axis(top: float, end: int) -> list[str]:
    step = 2.0 ** np.ceil(np.log2(top / 5))
    parts = []
    for value in np.arange(0, top, step):
        y = _y(value / top)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 10}" stroke="#e4e7eb"/>')
        parts.append(_text(LEFT - 6, y + 4, format_bytes(int(value)) if value else "0", "11px", "end"))
    for share in np.linspace(0, 1, 6):
        x = LEFT + share * (WIDTH - LEFT - 10)
        anchor = "end" if share == 1 else "middle"
        parts.append(_text(x, HEIGHT - 8, f"{share * end / SECOND:.3g} s", "11px", anchor))
    return parts


def _legend(screen: Screen, tier: str, by: str) -> list[str]:
    parts = []
    for place, band in enumerate(screen.bands(tier, by).bands):
        x, y = LEFT + place % 4 * 222, HEIGHT + 12 + place // 4 * 22
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" rx="2" fill="{colour_of(band.name).light}"/>')
        name = band.name if len(band.name) < 22 else f"{band.name[:20]}…"
        parts.append(_text(x + 16, y, f"{name}  {format_bytes(band.peak)}", "11px"))
    return parts


def _text(x: float, y: float, words: str, font: str, anchor: str = "start") -> str:
    weight, _, size = font.rpartition(" ")
    style = f'font-size="{size}"' + (f' font-weight="{weight}"' if weight else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" {style} text-anchor="{anchor}" fill="#30363d">{html.escape(words)}</text>'
