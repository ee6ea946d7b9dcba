"""A run while it is recorded, as a small picture: bytes by owner over time, from what its feed has that is new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from workbench.launch.feed import Feed
from workbench.run.columns import Ints, codes, equals, numbers
from workbench.run.ledger import readings, truth
from workbench.run.timeline import OUTER_LAYER, signed_bytes
from workbench.view.bands import OTHERS
from workbench.view.colours import colour_of
from workbench.view.crossing import Answer

TIERS = ("gpu", "pageable")  # what is drawn: the first that has anything
MOST_SAMPLES = 512
MOST_BANDS = 8
A_LOOK = 64  # samples of what is new since the last look, at most


class History:
    """Bytes by owner of one tier at some moments: of moments that are too many those of more bytes are kept."""

    def __init__(self) -> None:
        self.times = np.zeros(0, dtype=np.int64)
        self._owners: dict[str, int] = {}  # and their columns
        self._held = np.zeros((0, 0), dtype=np.int64)  # [times, owners]

    def add(self, rows: pa.Table) -> None:
        """Take new events of the tier's outer layer, in the order of time."""
        owners, texts = codes(rows, "owner")
        change, times = signed_bytes(rows), numbers(rows, "time_ns")
        places = _highest_of_each(np.cumsum(change))
        present = np.unique(owners).tolist()
        held = self._last_repeated(len(places), [texts[code] or "" for code in present])
        for code in present:
            summed = np.cumsum(np.where(owners == code, change, 0))[places]
            held[:, self._owners[texts[code] or ""]] += summed
        self._keep(times[places], held)

    def read(self, time_ns: int, size: int) -> None:
        """Take a reading of the whole, by nobody."""
        held = self._last_repeated(1, [""])
        held[:] = size
        self._keep(np.array([time_ns]), held)

    def _last_repeated(self, count: int, owners: list[str]) -> Ints:
        """What is held after the last moment, so many times, with a column for each of these owners too."""
        for owner in owners:
            self._owners.setdefault(owner, len(self._owners))
        missing = len(self._owners) - self._held.shape[1]
        if missing:
            self._held = np.pad(self._held, ((0, 0), (0, missing)))
        last = self._held[-1:] if len(self._held) else np.zeros((1, len(self._owners)), dtype=np.int64)
        return np.repeat(last, count, axis=0)

    def _keep(self, times: Ints, held: Ints) -> None:
        self.times = np.concatenate([self.times, times])
        self._held = np.concatenate([self._held, held])
        while len(self.times) > MOST_SAMPLES:
            self._thin()

    def _thin(self) -> None:
        """Of two neighbours the one of more bytes stays; the last one in any case."""
        sums = self.sums()
        first = np.arange(0, len(sums) - 1, 2)
        kept = np.union1d(first + (sums[first + 1] > sums[first]), len(sums) - 1)
        self.times, self._held = self.times[kept], self._held[kept]

    def bands(self) -> dict[str, Ints]:
        """Bytes over time of those that hold most, and of the others together."""
        peaks = self._held.max(axis=0, initial=0)
        names = sorted(self._owners, key=lambda owner: -peaks[self._owners[owner]])
        bands = {name: self._row([name]) for name in names[:MOST_BANDS]}
        return bands | ({OTHERS: self._row(names[MOST_BANDS:])} if names[MOST_BANDS:] else {})

    def sums(self) -> Ints:
        """Bytes over time of all together."""
        return np.asarray(self._held.sum(axis=1))

    def _row(self, names: list[str]) -> Ints:
        return np.asarray(self._held[:, [self._owners[name] for name in names]].sum(axis=1))


class Live:
    """What is known so far of a run that is being recorded."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._histories = {tier: History() for tier in TIERS}
        self._end = 1  # in ns, of what is known
        self._phases: dict[tuple[str, int, int], int | None] = {}
        self._truth = {tier: History() for tier in TIERS}

    def look(self) -> bool:
        """Take what is new; whether there was anything."""
        events, totals = self._feed.new("events"), self._feed.new("totals")
        for tier, history in self._histories.items():
            rows = events.filter(pa.array(equals(events, "tier", tier) & equals(events, "layer", OUTER_LAYER[tier])))
            if rows.num_rows:
                history.add(rows)
            for at in readings(totals, tier).tolist():  # of all devices or processes at once
                self._truth[tier].read(at, truth(totals, tier, at) or 0)
        phases = self._feed.new("phases")
        for phase in phases.to_pylist():
            self._phases[phase["name"], phase["start_ns"], phase["depth"]] = phase["end_ns"]
        for column in (events["time_ns"], totals["time_ns"], phases["start_ns"]):
            self._end = max([self._end, *(chunk[-1].as_py() for chunk in column.chunks if len(chunk))])
        return bool(events.num_rows or totals.num_rows or phases.num_rows)

    def answer(self) -> Answer:
        """What a page needs to draw it; the same columns as a timeline's series."""
        tier = next((tier for tier in TIERS if len(self._histories[tier].times)), TIERS[-1])
        history, told = self._histories[tier], self._truth[tier]
        bands = history.bands()
        facts = {
            "live": True,
            "tier": tier,
            "start": 0,
            "end": self._end,
            "bands": [{"name": name, **vars(colour_of(name))} for name in bands],
            "phases": [
                {"name": name, "start": start, "end": self._end if end is None else end, "depth": depth}
                for (name, start, depth), end in self._phases.items()
            ],
        }
        columns: dict[str, Any] = {"time": history.times}
        columns |= {f"band {place}": row for place, row in enumerate(bands.values())}
        columns["truth_time"] = told.times
        columns["truth"] = told.sums()
        return Answer(facts, columns)


def _highest_of_each(sums: Ints) -> Ints:
    """The places of the highest of each of some parts, and the last."""
    if len(sums) <= A_LOOK:
        return np.arange(len(sums))
    parts = np.array_split(np.arange(len(sums)), min(len(sums), A_LOOK))
    return np.unique([int(part[np.argmax(sums[part])]) for part in parts] + [len(sums) - 1])
