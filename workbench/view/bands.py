"""Bytes over time by owner or tag, at the resolution of a screen, with no peak lost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from workbench.errors import UsageError
from workbench.run.columns import Ints, Mask
from workbench.run.ledger import UNUSED
from workbench.view.attribution import Attribution, Key, attribute
from workbench.view.steps import Steps, together

BY = ("owner", "tag")
UNTAGGED = "no tag"
OTHERS = "others"
MOST_BANDS = 12
VISIBLE = 1 / 400
"""Of the height of a picture: what is smaller than this can not be seen."""


@dataclass(frozen=True)
class Band:
    """One owner or one tag, or the many small ones together."""

    name: str
    of: tuple[str, ...]  # the owners or tags in it
    keys: tuple[int, ...]  # places in `Attribution.names`
    steps: Steps
    peak: int


@dataclass(frozen=True)
class Samples:
    """Bytes of each band from `times_ns[i]` until `times_ns[i + 1]`; the first is the start of the window."""

    times_ns: Ints
    bytes: Ints  # [bands, times]
    shown: int  # events that the window has, of which these are some


class Bands:
    """The bands of a tier: they add up to its timeline. Those that hold most have their own, the rest are `others`."""

    def __init__(self, made: Attribution, by: str, most: int = MOST_BANDS) -> None:
        if by not in BY:
            raise UsageError(f"bytes can not be shown by {by!r}; by {' or '.join(BY)}")
        self.made = made
        self.by = by
        self.total = _total(made)
        self.bands = _bands(made, by, most)
        self.in_use = self.total if made.unused < 0 else _in_use(made)
        self._chosen: tuple[frozenset[str], Steps] | None = None

    @classmethod
    def of(cls, events: pa.Table, tier: str, by: str) -> Bands:
        """The bands of a tier, from the events of a run."""
        return cls(attribute(events, tier), by)

    @property
    def times_ns(self) -> Ints:
        """When each event was."""
        return self.made.times_ns

    def sample(self, start_ns: int, end_ns: int, columns: int, only: Collection[str] = ()) -> Samples:
        """What is needed to draw a window of time in so many columns: see `Samples`.

        Where the events are more than can be seen, those are kept after which the sum, or what is in use of it, is
        highest or lowest in its column, each band's highest where it would be missed, and the last of the column.
        """
        chosen = [band for band in self.bands if not only or band.name in only]
        first, last = np.searchsorted(self.times_ns, [start_ns, end_ns], side="right")
        if last - first <= 4 * columns:
            places = np.arange(first, last)
        else:
            bounds = np.linspace(start_ns, end_ns, columns + 1)
            edges = np.searchsorted(self.times_ns, bounds, side="right")
            places = self._visible(chosen, edges)
        values = np.array([_values(band.steps, int(first) - 1, places) for band in self.bands], dtype=np.int64)
        times = np.append(start_ns, self.times_ns[places])
        return Samples(times, values.reshape(len(self.bands), len(times)), int(last - first))

    def _visible(self, chosen: list[Band], edges: Ints) -> Ints:
        """The events that make the picture, in the order of time."""
        filled = edges[1:] > edges[:-1]
        found = [edges[1:][filled] - 1]
        for steps in self._outlines(chosen):
            found += [steps.peaks(edges, filled), steps.lows(edges, filled)]
        places = _merged(found)
        held = [band.steps.after(places) for band in chosen]
        tolerance = VISIBLE * max((int(one.max(initial=0)) for one in held), default=0)
        for band, known in zip(chosen, held, strict=True):
            missed = self._missed(band.steps, known, edges, places, tolerance)
            found.append(band.steps.peaks(edges, missed))
        return _merged(found)

    def _outlines(self, chosen: list[Band]) -> list[Steps]:
        """What is drawn as the upper edge of the picture: the sum, and the sum without what nobody uses."""
        if len(chosen) == len(self.bands):
            return [self.total] if self.in_use is self.total else [self.total, self.in_use]
        names = frozenset(band.name for band in chosen)
        if self._chosen is None or self._chosen[0] != names:  # one is kept: each is as long as the run
            self._chosen = names, together([band.steps for band in chosen])
        return [self._chosen[1]]

    @staticmethod
    def _missed(steps: Steps, known: Ints, edges: Ints, places: Ints, tolerance: float) -> Mask:
        """The columns in which a band is visibly higher than `known`, after any of `places`, or before the column."""
        starts = np.searchsorted(places, edges[:-1])
        known = np.append(known, np.iinfo(np.int64).min)
        most = np.maximum(np.maximum.reduceat(known, starts), steps.after(edges[:-1] - 1))
        highest = steps.highest(edges)
        missed: Mask = (highest > most) & (highest - most.astype(float) > tolerance)
        return missed


def _merged(parts: list[Ints]) -> Ints:
    """All numbers of all parts, each once, in order: numpy's own hashes them, which takes longer."""
    merged = np.concatenate(parts)
    merged.sort()
    return merged[np.append(True, merged[1:] != merged[:-1])] if len(merged) else merged


def _total(made: Attribution) -> Steps:
    if made.outer.all():
        return Steps.adding(np.arange(len(made.outer), dtype=np.int32), made.change)
    return Steps.adding(np.flatnonzero(made.outer).astype(np.int32), made.change[made.outer])


def _in_use(made: Attribution) -> Steps:
    at = np.flatnonzero(made.keys != made.unused).astype(np.int32)
    return Steps.adding(at, made.change[at])


def is_unused(name: str) -> bool:
    """Whether a band is memory that an allocator holds and has given to nobody."""
    return name == UNUSED or name.endswith(f" {UNUSED}")


def _values(steps: Steps, before: int, places: Ints) -> Ints:
    return steps.after(np.append(before, places))


def band_name(key: Key, by: str) -> str:
    """The band that bytes of an owner with a tag belong to, where it has one of its own."""
    owner, tag = key
    if by == "tag":
        return tag or UNTAGGED
    return f"{owner} {UNUSED}" if tag == UNUSED else owner


def _bands(made: Attribution, by: str, most: int) -> list[Band]:
    """The largest first; then what has no tag, what is unused and the others, so that what is known lies together."""
    names = [band_name(key, by) for key in made.names]
    unique = list(dict.fromkeys(names))
    code = np.array([unique.index(name) for name in names], dtype=np.uint8 if len(unique) < 256 else np.uint16)
    steps = _split(made, code[made.keys], len(unique), unique.index(names[made.unused]) if made.unused >= 0 else -1)
    order = [one for one in range(len(unique)) if len(steps[one].bytes)]
    order.sort(key=lambda one: (-steps[one].peak, unique[one]))
    own = order if len(order) <= most else order[: most - 1]
    own += [one for one in order if is_unused(unique[one]) and one not in own]
    bands = [_band(unique[one], [one], names, unique, steps) for one in own]
    bands.sort(key=lambda band: (is_unused(band.name), band.name == UNTAGGED))
    rest = [one for one in order if one not in own]
    return [*bands, _band(OTHERS, rest, names, unique, steps)] if rest else bands


def _band(name: str, parts: list[int], names: list[str], unique: list[str], steps: list[Steps]) -> Band:
    mine = tuple(unique[part] for part in parts)
    summed = together([steps[part] for part in parts])
    return Band(name, mine, tuple(key for key, one in enumerate(names) if one in mine), summed, summed.peak)


def _split(made: Attribution, code: np.typing.NDArray[Any], count: int, unused: int) -> list[Steps]:
    """The steps of each name. A block's change is also one, the other way, of what its allocator holds unused."""
    order = np.argsort(code, kind="stable").astype(np.int32)  # a radix sort: the names are few
    bounds = np.searchsorted(code[order], np.arange(count + 1))
    parts = [order[a:b] for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    steps = [Steps.adding(part, made.change[part]) for part in parts]
    if unused >= 0:
        at = np.flatnonzero(~made.outer | (code == unused)).astype(np.int32)
        change = np.where(made.outer[at], made.change[at], -made.change[at])
        steps[unused] = Steps.adding(at, change)
    return steps
