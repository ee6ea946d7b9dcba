"""Compared runs as a figure for a paper: bytes over time on the axis that their phases share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from workbench.errors import UsageError, nearest
from workbench.units import SECOND
from workbench.view.alignment import Alignment, align
from workbench.view.comparison_screen import LINES, ComparisonScreen
from workbench.view.figure import STYLE, RunFigure, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 1200
DASHES = ("-", "--", ":", "-.", (0, (5, 5)), (0, (1, 4)))
Curve = npt.NDArray[np.float64]


def comparison_figure(screen: ComparisonScreen, tier: str | None = None, width: float = 7.0) -> RunFigure:
    """The bytes of every way over time: a line, and where it was run more than once, from the least to the most."""
    import matplotlib

    tier = tier or next(iter(screen.tiers), "pageable")
    if tier not in screen.tiers:
        raise UsageError(f"these runs have nothing in a tier {tier!r}: {nearest(tier, screen.tiers)}")
    alignment = align(screen.screens)
    curves = [_curve(screen, run, tier, alignment) for run in range(len(screen.runs))]
    with matplotlib.rc_context(STYLE):
        figure = RunFigure(figsize=(width, width * 0.42))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        times = np.linspace(0, alignment.shared[-1], COLUMNS) / SECOND
        for place, way in enumerate(screen.ways):
            _draw(axes, times, np.array([curves[run] for run in way.runs]), way.name, place)
        finish(axes, alignment.shared[-1])
        axes.set_xlabel("seconds, aligned by phase")
        axes.set_title(f"{tier} memory", loc="left", fontsize=9)
    return figure


def _curve(screen: ComparisonScreen, run: int, tier: str, alignment: Alignment) -> Curve:
    """The most bytes of a run in each column of the shared axis."""
    total = screen.screens[run].bands(tier, "owner").total
    made = screen.screens[run].bands(tier, "owner").times_ns
    moments = np.linspace(0, alignment.shared[-1], COLUMNS + 1)
    place = np.clip(np.searchsorted(alignment.shared, moments, side="right") - 1, 0, len(alignment.shared) - 2)
    mine, shared = np.array(alignment.own[run]), np.array(alignment.shared)
    own = np.minimum(mine[place] + moments - shared[place], mine[place + 1])  # who is done before the others waits
    edges = np.searchsorted(made, own, side="right")
    before = total.after(edges[:-1] - 1)
    curve: Curve = np.maximum(before, np.where(edges[1:] > edges[:-1], total.highest(edges), before)).astype(float)
    return curve


def _draw(axes: Axes, times: Curve, curves: Curve, name: str, place: int) -> None:
    colour, _ = LINES[place]
    repeats = f" ({len(curves)} runs)" if len(curves) > 1 else ""
    if len(curves) > 1:
        axes.fill_between(times, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.25, linewidth=0)
    middle = np.median(curves, axis=0)
    axes.plot(times, middle, color=colour, linestyle=DASHES[place], linewidth=1.2, label=name + repeats)
