"""Differences in words: what is beyond noise, the largest first, and what of them is noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from workbench.compare.ranking import Delta, is_noise, ranked, whole
from workbench.run.columns import equals
from workbench.run.run import Run
from workbench.studies.base import Outcome
from workbench.units import format_bytes

MIB = 1 << 20
SMALLEST = MIB // 2  # what is not a MiB is not worth a word
PARTS = 4


def difference(base: Outcome, other: Outcome, tier: str, without: str | None = None) -> str:
    """Gives what a variant takes more than another in a tier, and who takes it; one owner may be left out of it."""
    names = other.variant.name, base.variant.name
    what = f"{tier} memory beside {without}'s" if without else f"{tier} memory"
    total = whole(base.runs, other.runs, tier, without)
    if total.is_noise or abs(total.difference) < SMALLEST:
        return f"{names[0]} and {names[1]} take the same of {what}{_same(total)}{_noise(total)}"
    size = f"{_mib(abs(total.difference))} MiB {'more' if total.difference > 0 else 'less'} {what}"
    parts = [
        _part(one, other.runs) for one in ranked(base.runs, other.runs, tier) if one.what != without and _counts(one)
    ]
    which = ", ".join(parts[:PARTS])
    return f"{names[0]} takes {size} than {names[1]}: {which}{_noise(total)}"


def texts(base: Outcome, other: Outcome) -> str:
    """Gives whether two variants answered the same."""
    said = [[run.manifest.notes.get("outputs") for run in outcome.runs] for outcome in (base, other)]
    if not all(outputs for runs in said for outputs in runs):
        return "text not recorded"
    return "text identical" if all(outputs == said[0][0] for runs in said for outputs in runs) else "text differs"


def amount(value: float, unit: str) -> str:
    """Gives a measured number in the unit that people read it in."""
    if unit == "B":
        return format_bytes(round(value))
    if unit == "s":
        return duration(value)
    if unit == "B/s":
        return f"{value / 1e9:.1f} GB/s"
    return f"{value:.0f} {unit}" if float(value).is_integer() else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Gives a time in the unit that three digits of it fill."""
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if abs(seconds) * factor < 999.5:
            return f"{seconds * factor:.{_decimals(seconds * factor)}f} {unit}"
    return f"{seconds:.2f} s"


def between(values: Sequence[float], unit: str = "s") -> str:
    """Gives the least and the most of some numbers, or the one that there is."""
    least, most = amount(min(values), unit), amount(max(values), unit)
    if least == most:
        return least
    number, _, own_unit = least.partition(" ")
    return f"{number if most.endswith(f' {own_unit}') else least} to {most}"


def apart(base: Sequence[float], other: Sequence[float]) -> str:
    """Gives by how much a time is another than a variant's, whose name is to follow."""
    difference = median(other) - median(base)
    if not math.isfinite(difference):
        return "not comparable with"
    if duration(abs(difference)) == duration(0):
        return "the same as"
    if is_noise(base, other):
        return "within the noise of"
    return f"{duration(abs(difference))} {'more' if difference > 0 else 'less'} than"


def _decimals(value: float) -> int:
    return 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0


def _counts(delta: Delta) -> bool:
    return not delta.is_noise and abs(delta.difference) >= SMALLEST


def _part(delta: Delta, runs: Sequence[Run]) -> str:
    events = runs[0].table("events")
    rows = equals(events, "owner", delta.what) & equals(events, "tier", delta.tier) & equals(events, "kind", "alloc")
    rows &= equals(events, "layer", "driver")
    count = int(rows.sum())
    by = f" in {count} allocations" if count > 1 and delta.tier == "gpu" else ""
    return f"{_mib(delta.difference)}{by} by {delta.what}"


def _same(delta: Delta) -> str:
    """How far what is called the same is the same."""
    if not delta.difference:
        return ""
    return ": what differs is noise" if delta.is_noise else ", to half a MiB"


def _noise(delta: Delta) -> str:
    """Of what is told alone: in all else runs of one variant may differ by more."""
    if delta.noise is None:
        return ""  # which the answer says once, of all that is in it
    if not delta.noise:
        return " (runs of one variant do not differ in this)"
    return f" (runs of one variant differ in this by up to {format_bytes(delta.noise)})"


def _mib(size: int) -> str:
    return f"{size / MIB:.0f}" if abs(size) >= 10 * MIB else f"{size / MIB:.1f}"
