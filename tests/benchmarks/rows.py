"""What a benchmark found and how it is shown: one row a number, beside what was asked and an anchor of the same run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.cli.output import print_table

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One measured number. `spread` is said in words, since what it is differs: an interval, or least and most."""

    what: str
    measured: float
    unit: str
    most: float | None = None  # what was asked, in the same unit
    spread: str = ""
    anchor: str = ""  # what was measured beside it
    anchor_measured: float | None = None

    @property
    def ratio(self) -> float | None:
        """Measured, in anchors."""
        return self.measured / self.anchor_measured if self.anchor_measured else None

    @property
    def held(self) -> bool | None:
        """Whether what was asked is so; None where nothing was."""
        return None if self.most is None else self.measured <= self.most

    def document(self) -> dict[str, Any]:
        """The row as plain data."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "")} | {
            key: value for key, value in (("ratio", self.ratio), ("held", self.held)) if value is not None
        }

    def cells(self) -> list[str]:
        """The row as it is printed."""
        anchor = "" if self.anchor_measured is None else f"{_number(self.anchor_measured)} {self.unit}: {self.anchor}"
        return [
            self.what,
            "" if self.most is None else f"<= {_number(self.most)} {self.unit}{'' if self.held else ' MISSED'}",
            f"{_number(self.measured)} {self.unit}" + (f" ({self.spread})" if self.spread else ""),
            anchor,
            "" if self.ratio is None else f"{self.ratio:.3g}",
        ]


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def least_to_most(values: list[float]) -> str:
    """The spread of values of which the median is given."""
    return f"{_number(min(values))} to {_number(max(values))}, n={len(values)}"


def show(rows: list[Row]) -> None:
    """Print the table."""
    print_table(["what", "asked", "measured", "anchor, same run", "ratio>"], [row.cells() for row in rows])


def interval_of_medians(*parts: Numbers) -> tuple[float, float]:
    """Where the median lies with 95 % confidence, or the sum of some, by bootstrap."""
    order = np.random.default_rng(0)
    sums = sum(np.median(part[order.integers(0, len(part), (2000, len(part)))], axis=1) for part in parts)
    low, high = np.quantile(sums, [0.025, 0.975])
    return float(low), float(high)
