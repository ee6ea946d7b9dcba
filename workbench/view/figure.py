"""Bytes over time as a figure for a paper: SVG, PDF or PNG by matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from workbench.run.columns import numbers
from workbench.run.ledger import readings, truth
from workbench.run.run import Run
from workbench.units import SECOND, format_bytes
from workbench.view.bands import Bands, Samples, is_unused
from workbench.view.colours import colour_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform

COLUMNS = 1500
STYLE: dict[Any, Any] = {"font.size": 8, "svg.fonttype": "none", "pdf.fonttype": 42, "hatch.linewidth": 0.6}
STYLE["text.parse_math"] = False  # a name with two $ in it is no formula
UNNAMED = re.compile(r"_child\d+")  # the label of what was given none
UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
TRUTH = {"gpu": "used, as the driver says", "pageable": "private, as the kernel says"}


class RunFigure(Figure):
    """A matplotlib figure that a notebook shows with or without `%matplotlib`, and that is saved with its legend."""

    def savefig(self, fname: Any, *, transparent: bool | None = None, **options: Any) -> None:
        """Save it: text as text, in type 42 where that is embedded, and nothing cut off, unless asked otherwise."""
        import matplotlib

        with matplotlib.rc_context(STYLE):
            super().savefig(fname, transparent=transparent, **{"bbox_inches": "tight", "dpi": 150} | options)

    def _repr_png_(self) -> bytes:
        return rendered(self, "png")


def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a file: png, svg or pdf."""
    to = io.BytesIO()
    figure.savefig(to, format=kind)
    return to.getvalue()


def timeline_figure(run: Run, tier: str | None = None, by: str = "owner", width: float = 7.0) -> RunFigure:
    """Stacked bytes over time of a tier, by default the first that has any, so many inches wide."""
    import matplotlib

    tier = tier or next((one for one in ("gpu", "pinned", "pageable") if len(run.timeline(one).times_ns)), "pageable")
    run.timeline(tier)
    with matplotlib.rc_context(STYLE):
        figure = RunFigure(figsize=(width, width * 0.42))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        bands = Bands.of(run.table("events"), tier, by)
        end = _end(run, bands)
        samples = bands.sample(0, end, COLUMNS)
        _draw_bands(axes, bands, samples, end)
        _draw_truth(axes, run, tier)
        _draw_phases(axes, run, end)
        finish(axes, end)
        axes.set_title(f"{run.manifest.name}: {tier} memory by {by}", loc="left", fontsize=9, pad=_room(run))
    return figure


def _end(run: Run, bands: Bands) -> int:
    if run.manifest.duration_s is not None:
        return max(int(run.manifest.duration_s * SECOND), 1)
    return int(bands.times_ns[-1]) if len(bands.times_ns) else 1


def _draw_bands(axes: Axes, bands: Bands, samples: Samples, end: int) -> None:
    times = np.append(samples.times_ns, end) / SECOND
    below = np.zeros(len(times))
    for band, values in zip(bands.bands, samples.bytes, strict=True):
        above = below + np.append(values, values[-1:])
        hatch = "////" if is_unused(band.name) else None
        face = "#ffffff" if hatch else colour_of(band.name).light
        edge = colour_of(band.name).light
        axes.fill_between(
            times, below, above, step="post", facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0.2,
            label=f"{band.name} ({format_bytes(band.peak)})",
        )  # fmt: skip
        below = above


def _draw_truth(axes: Axes, run: Run, tier: str) -> None:
    totals = run.table("totals")
    times = readings(totals, tier) if tier in TRUTH else np.zeros(0, dtype=np.int64)
    if len(times):
        values = [truth(totals, tier, int(at)) or 0 for at in times]
        axes.plot(times / SECOND, values, "k--", marker="o", markersize=1.5, linewidth=0.8, label=TRUTH[tier])


def _draw_phases(axes: Axes, run: Run, end: int) -> None:
    phases = run.table("phases")
    names, depths = phases["name"].to_pylist(), numbers(phases, "depth").tolist()
    starts = phases["start_ns"].to_pylist()
    ends = [end if one is None else one for one in phases["end_ns"].to_pylist()]
    transform = axes.get_xaxis_transform()
    for name, depth, start, stop in zip(names, depths, starts, ends, strict=True):
        y = 1.015 + 0.055 * (_deepest(depths) - depth)
        axes.add_patch(_bar(start / SECOND, y, (stop - start) / SECOND, transform))
        if (stop - start) / end > 0.0095 * len(name):
            axes.text(start / SECOND, y + 0.022, f" {name}", transform=transform, fontsize=6, va="center")


def _deepest(depths: Sequence[int]) -> int:
    return min(max(depths, default=0), 3)


def _bar(left: float, bottom: float, width: float, transform: Transform) -> Rectangle:
    return Rectangle(
        (left, bottom), width, 0.045, transform=transform, clip_on=False, facecolor="#e4e7eb", edgecolor="white"
    )


def _room(run: Run) -> float:
    """Points above the axes that the phases take."""
    depths = numbers(run.table("phases"), "depth").tolist()
    return 5 + 9.5 * (_deepest(depths) + 1) if depths else 6


def finish(axes: Axes, end: int) -> None:
    """Axes in round binary steps, with the legend beside them."""
    axes.set_xlim(0, end / SECOND)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds since the run began")
    unit, name = next((one for one in UNITS if axes.get_ylim()[1] >= one[0]), UNITS[-1])
    axes.set_ylabel(name)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    top = axes.get_ylim()[1] / unit
    step = 2.0 ** np.floor(np.log2(max(top / 4, 1e-9)))
    axes.set_yticks(np.arange(0, top, step) * unit)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:g}"))
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    named = {one: str(one.get_label()) for one in (*axes.collections, *axes.lines)}  # `_C.abi3.so` too
    shown = [one for one, label in reversed(named.items()) if not UNNAMED.fullmatch(label)]
    labels = [named[one] for one in shown]
    axes.legend(shown, labels, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=7)
