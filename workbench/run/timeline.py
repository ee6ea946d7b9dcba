"""Bytes in use over time: the step function that a run's events add up to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from workbench.run.columns import Ints, Mask, codes, equals, numbers

OUTER_LAYER = {"gpu": "driver", "pinned": "driver", "pageable": "host"}
"""The layer whose events count in a tier; allocator blocks lie inside it, and adding them would count bytes twice."""

COLUMNS = ("time_ns", "kind", "layer", "tier", "bytes")
"""Of the events, what a timeline needs."""

PIECE = 1 << 16  # rows worked on at a time, so that what lies between stays in the processor's cache
SIGN = np.array([1, -1])  # of what an alloc and a free add


@dataclass(frozen=True)
class Peak:
    """The most bytes in use, and when."""

    bytes: int
    time_ns: int


@dataclass(frozen=True)
class Timeline:
    """Bytes in use in one tier: `bytes[i]` holds from `times_ns[i]` until the next time; before the first it is 0."""

    times_ns: Ints
    bytes: Ints

    @classmethod
    def of(cls, events: pa.Table, tier: str) -> Timeline:
        """The timeline of `tier`, from the events of the layer that counts there."""
        rows = counted(events, tier)
        times, change = numbers(events, "time_ns"), signed_bytes(events)
        if not rows.all():
            times, change = times[rows], change[rows]
        return cls(times, np.cumsum(change, out=change))

    @property
    def peak(self) -> Peak:
        """The most bytes in use, at the first moment they were."""
        return self.peak_between(0, None)

    def peak_between(self, start_ns: int, end_ns: int | None) -> Peak:
        """The most bytes in use from `start_ns` to `end_ns`, what was in use at the start included."""
        first = int(np.searchsorted(self.times_ns, start_ns, side="right"))
        last = len(self.times_ns) if end_ns is None else int(np.searchsorted(self.times_ns, end_ns, side="right"))
        before = Peak(self.at(start_ns), start_ns)
        if first >= last:
            return before
        place = first + int(np.argmax(self.bytes[first:last]))
        inside = Peak(int(self.bytes[place]), int(self.times_ns[place]))
        return inside if inside.bytes > before.bytes else before

    def at(self, time_ns: int) -> int:
        """Bytes in use just after what happened at `time_ns`."""
        place = int(np.searchsorted(self.times_ns, time_ns, side="right")) - 1
        return int(self.bytes[place]) if place >= 0 else 0

    @property
    def end(self) -> int:
        """Bytes still in use after the last event."""
        return int(self.bytes[-1]) if len(self.bytes) else 0


def timelines(events: pa.Table, tier: str, by: str = "owner") -> dict[str, Timeline]:
    """The timeline of each owner (or tag) of a tier; they add up to `Timeline.of`."""
    rows = np.flatnonzero(counted(events, tier))
    keys, texts = codes(events, by)
    keys, times, change = keys[rows], numbers(events, "time_ns")[rows], signed_bytes(events)[rows]
    return {
        texts[key] or "": Timeline(times[keys == key], np.cumsum(change[keys == key]))
        for key in np.unique(keys).tolist()
    }


def counted(events: pa.Table, tier: str) -> Mask:
    """Which events count in a tier: those of its outer layer, or of the allocator where nothing outer was recorded."""
    in_tier = equals(events, "tier", tier)
    outer = equals(events, "layer", OUTER_LAYER[tier])
    outer &= in_tier
    return outer if outer.any() else in_tier


def signed_bytes(events: pa.Table) -> Ints:
    """What each event adds to the bytes in use: negative for a free."""
    sizes, is_free = numbers(events, "bytes"), equals(events, "kind", "free")
    change = np.empty_like(sizes)
    for start in range(0, len(sizes), PIECE):
        piece = slice(start, start + PIECE)
        np.multiply(sizes[piece], SIGN[is_free[piece].view(np.uint8)], out=change[piece])
    return change
