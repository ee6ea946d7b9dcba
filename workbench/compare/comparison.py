"""Runs aligned by phase, and their differences ranked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError
from workbench.run import schema
from workbench.run.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.view.widget import ComparisonView


@dataclass(frozen=True)
class Difference:
    """What one owner, or one phase, takes in each of the compared runs."""

    what: str
    tier: str
    bytes: tuple[int, ...]  # one a run, in the order of the runs

    @property
    def spread(self) -> int:
        """Bytes between the run that takes most and the run that takes least."""
        return max(self.bytes) - min(self.bytes)


class Comparison:
    """Two runs or more, held against each other at the fullest phase edge of each and phase by phase."""

    def __init__(self, runs: list[Run]) -> None:
        if len(runs) < 2:
            raise UsageError("a comparison needs two runs or more")
        self.runs = runs
        self.tiers = [tier for tier in schema.TIERS if any(len(run.timeline(tier).times_ns) for run in runs)]

    def owners(self, tier: str) -> list[Difference]:
        """What each owner holds at the fullest phase edge, the largest difference first."""
        held = [run.ledger(tier).by_owner() for run in self.runs]
        names = dict.fromkeys(owner for one in held for owner in one)
        return _ranked(Difference(name, tier, tuple(one.get(name, 0) for one in held)) for name in names)

    def phases(self, tier: str) -> list[Difference]:
        """The peak of each phase that all runs have, in the order of the first run; a phase met again is numbered."""
        peaks = [self._peaks(run, tier) for run in self.runs]
        shared = [name for name in peaks[0] if all(name in one for one in peaks)]
        return [Difference(name, tier, tuple(one[name] for one in peaks)) for name in shared]

    def used(self, tier: str) -> tuple[int | None, ...]:
        """What the driver or the kernel had as used at the fullest phase edge of each run."""
        return tuple(run.ledger(tier).used for run in self.runs)

    @property
    def has_same_workloads(self) -> bool:
        """Whether the engines were asked the same, as far as the runs say what: else that makes a difference, too."""
        said = [run.workloads for run in self.runs if run.workloads]
        return all(workloads == said[0] for workloads in said)

    def view(self, tier: str | None = None) -> ComparisonView:
        """The comparison as a widget: the runs on one axis of time, and what differs between them."""
        from workbench.view.widget import ComparisonView

        return ComparisonView(self.runs, tier)

    def figure(self, tier: str | None = None, width: float = 7.0) -> Figure:
        """The runs over each other as a matplotlib figure, so many inches wide: for papers, as SVG or PDF."""
        from workbench.view.comparison_figure import comparison_figure
        from workbench.view.comparison_screen import ComparisonScreen

        return comparison_figure(ComparisonScreen(self.runs), tier, width)

    def to_html(self, path: str | Path) -> Path:
        """Writes the comparison as one HTML file of at most 2 MiB a run: zoomable, without a network; its path."""
        from workbench.view.comparison_screen import ComparisonScreen
        from workbench.view.page import comparison_page, write

        return write(comparison_page(ComparisonScreen(self.runs)), path)

    def _ipython_display_(self) -> None:
        self.view()._ipython_display_()

    def document(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "runs": [run.id for run in self.runs],
            "has_same_workloads": self.has_same_workloads,
            "used": {tier: self.used(tier) for tier in self.tiers},
            "owners": {tier: [_plain(one) for one in self.owners(tier)] for tier in self.tiers},
            "phases": {tier: [_plain(one) for one in self.phases(tier)] for tier in self.tiers},
        }

    @staticmethod
    def _peaks(run: Run, tier: str) -> dict[str, int]:
        peaks: dict[str, int] = {}
        for phase in run.table("phases").to_pylist():
            name, number = phase["name"], 2
            while name in peaks:
                name, number = f"{phase['name']} {number}", number + 1
            peaks[name] = run.timeline(tier).peak_between(phase["start_ns"], phase["end_ns"]).bytes
        return peaks


def _ranked(differences: Any) -> list[Difference]:
    return sorted(differences, key=lambda one: (-one.spread, one.what))


def _plain(one: Difference) -> dict[str, Any]:
    return {"what": one.what, "bytes": list(one.bytes), "spread": one.spread}
