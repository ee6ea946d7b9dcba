"""A run while it is recorded, as a small picture: bytes by owner over time, from what its feed has that is new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from workbench.launch.feed import Feed
from workbench.run import schema
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

Held = dict[str, int]


class History:
    """Bytes by owner of one tier at some moments: of moments that are too many those of more bytes are kept."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.held: list[Held] = []

    def add(self, rows: pa.Table) -> None:
        """Take new events of the tier's outer layer, in the order of time."""
        owners, texts = codes(rows, "owner")
        change, times = signed_bytes(rows), numbers(rows, "time_ns")
        places = _highest_of_each(np.cumsum(change))
        held = [dict(self.held[-1]) if self.held else {} for _ in places]
        for code in np.unique(owners).tolist():
            summed = np.cumsum(np.where(owners == code, change, 0))[places]
            for one, size in zip(held, summed.tolist(), strict=True):
                one[texts[code] or ""] = one.get(texts[code] or "", 0) + size
        self.times += times[places].tolist()
        self.held += held
        while len(self.times) > MOST_SAMPLES:
            self._thin()

    def _thin(self) -> None:
        """Of two neighbours the one of more bytes stays; the last one in any case."""
        sums = [sum(one.values()) for one in self.held]
        pairs = range(0, len(sums) - 1, 2)
        kept = sorted({max((at, at + 1), key=sums.__getitem__) for at in pairs} | {len(sums) - 1})
        self.times = [self.times[at] for at in kept]
        self.held = [self.held[at] for at in kept]

    def bands(self) -> dict[str, Ints]:
        """Bytes over time of those that hold most, and of the others together."""
        peaks: Held = {}
        for one in self.held:
            for owner, size in one.items():
                peaks[owner] = max(peaks.get(owner, 0), size)
        names = sorted(peaks, key=lambda owner: -peaks[owner])
        bands = {name: self._row([name]) for name in names[:MOST_BANDS]}
        return bands | ({OTHERS: self._row(names[MOST_BANDS:])} if names[MOST_BANDS:] else {})

    def _row(self, names: list[str]) -> Ints:
        return np.array([sum(one.get(name, 0) for name in names) for one in self.held], dtype=np.int64)


class Live:
    """What is known so far of a run that is being recorded."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._histories = {tier: History() for tier in TIERS}
        self._totals = schema.TOTALS.empty_table()
        self._phases: dict[tuple[str, int, int], int | None] = {}
        self._truth: dict[str, dict[int, int]] = {tier: {} for tier in TIERS}

    def look(self) -> bool:
        """Take what is new; whether there was anything."""
        events, totals = self._feed.new("events"), self._feed.new("totals")
        for tier, history in self._histories.items():
            rows = events.filter(pa.array(equals(events, "tier", tier) & equals(events, "layer", OUTER_LAYER[tier])))
            if rows.num_rows:
                history.add(rows)
        if totals.num_rows:
            self._totals = pa.concat_tables([self._totals, totals]).unify_dictionaries()
            for tier in TIERS:
                self._read_truth(tier, totals)
        for phase in self._feed.new("phases").to_pylist():
            self._phases[phase["name"], phase["start_ns"], phase["depth"]] = phase["end_ns"]
        return bool(events.num_rows or totals.num_rows)

    def _read_truth(self, tier: str, new: pa.Table) -> None:
        for at in readings(new, tier).tolist():
            size = truth(self._totals, tier, at)
            if size is not None:
                self._truth[tier][at] = size

    def answer(self) -> Answer:
        """What a page needs to draw it; the same columns as a timeline's series."""
        tier = next((tier for tier in TIERS if self._histories[tier].times), TIERS[-1])
        history, told = self._histories[tier], self._truth[tier]
        bands = history.bands()
        facts = {
            "live": True,
            "tier": tier,
            "start": 0,
            "end": max([1, *history.times[-1:], *list(told)[-1:]]),
            "bands": [{"name": name, **vars(colour_of(name))} for name in bands],
            "phases": [
                {"name": name, "start": start, "end": end, "depth": depth}
                for (name, start, depth), end in self._phases.items()
            ],
        }
        columns: dict[str, Any] = {"time": np.array(history.times, dtype=np.int64)}
        columns |= {f"band {place}": row for place, row in enumerate(bands.values())}
        columns["truth_time"] = np.array(list(told), dtype=np.int64)
        columns["truth"] = np.array(list(told.values()), dtype=np.int64)
        return Answer(facts, columns)


def _highest_of_each(sums: Ints) -> Ints:
    """The places of the highest of each of some parts, and the last."""
    parts = np.array_split(np.arange(len(sums)), min(len(sums), A_LOOK))
    return np.unique([int(part[np.argmax(sums[part])]) for part in parts] + [len(sums) - 1])
