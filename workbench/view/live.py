"""A run while it is recorded, as a small picture: bytes by owner over time, from what its feed has that is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from workbench.launch.feed import Feed
from workbench.run import devices
from workbench.run.columns import Ints, Mask, numbers
from workbench.run.ledger import TRUTH
from workbench.run.timeline import OUTER_LAYER
from workbench.units import SECOND
from workbench.view.bands import OTHERS, VISIBLE
from workbench.view.colours import colour_of
from workbench.view.crossing import Answer

TIERS = ("gpu", "pageable")  # what is drawn: the first that has anything
MOST_SAMPLES = 512
MOST_BANDS = 8
A_LOOK = 64  # samples of what is new since the last look, at most
TELL_AGAIN_NS = 2 * SECOND  # also what can not be seen: the page has numbers too


class History:
    """Bytes by owner of one tier at some moments: of moments that are too many those of more bytes are kept.

    Owners are numbers here.
    """

    def __init__(self) -> None:
        self.times = np.zeros(0, dtype=np.int64)
        self._columns: dict[int, int] = {}  # of each owner
        self._held = np.zeros((0, 0), dtype=np.int64)  # [times, owners]
        self._told = np.zeros(0, dtype=np.int64)  # by each owner, when it was told last
        self._moved = self._most = 0  # the most that an owner has moved since; the most bytes of all

    def is_seen_to_move(self) -> bool:
        """Whether a picture would show what has come since it was told."""
        return self._moved > self._most * VISIBLE

    def tell(self) -> None:
        """What is known now is told."""
        self._told, self._moved = self._held[-1:].sum(axis=0), 0

    def add(self, times: Ints, owners: Ints, change: Ints) -> None:
        """Take new events of the tier's outer layer, in the order of time: what each adds to the bytes in use."""
        places = _highest_of_each(np.cumsum(change))
        present = np.unique(owners).tolist()
        held = self._last_repeated(len(places), present)
        for owner in present:
            held[:, self._columns[owner]] += np.cumsum(np.where(owners == owner, change, 0))[places]
        self._keep(times[places], held)

    def read(self, time_ns: int, size: int) -> None:
        """Take a reading of the whole, by nobody."""
        held = self._last_repeated(1, [0])
        held[:] = size
        self._keep(np.array([time_ns]), held)

    def _last_repeated(self, count: int, owners: list[int]) -> Ints:
        """What is held after the last moment, so many times, with a column for each of these owners too."""
        for owner in owners:
            self._columns.setdefault(owner, len(self._columns))
        missing = len(self._columns) - self._held.shape[1]
        if missing:
            self._held = np.pad(self._held, ((0, 0), (0, missing)))
        last = self._held[-1:] if len(self._held) else np.zeros((1, len(self._columns)), dtype=np.int64)
        return np.repeat(last, count, axis=0)

    def _keep(self, times: Ints, held: Ints) -> None:
        told = np.pad(self._told, (0, held.shape[1] - len(self._told)))
        self._moved = max(self._moved, int(np.abs(held - told).max()))
        self._most = max(self._most, int(held.sum(axis=1).max()))
        self.times = np.concatenate([self.times, np.maximum(times, self.times[-1:].sum())])  # some are told late
        self._held = np.concatenate([self._held, held])
        while len(self.times) > MOST_SAMPLES:
            self._thin()

    def _thin(self) -> None:
        """Of two neighbours the one of more bytes stays; the last one in any case."""
        sums = self.sums()
        first = np.arange(0, len(sums) - 1, 2)
        kept = np.union1d(first + (sums[first + 1] > sums[first]), len(sums) - 1)
        self.times, self._held = self.times[kept], self._held[kept]

    def bands(self, names: Sequence[str]) -> dict[str, Ints]:
        """Bytes over time of those that hold most, by their names, and of the others together."""
        peaks = self._held.max(axis=0, initial=0)
        owners = sorted(self._columns, key=lambda owner: -peaks[self._columns[owner]])
        bands = {names[owner]: self._held[:, self._columns[owner]] for owner in owners[:MOST_BANDS]}
        others = [self._columns[owner] for owner in owners[MOST_BANDS:]]
        return bands | ({OTHERS: np.asarray(self._held[:, others].sum(axis=1))} if others else {})

    def sums(self) -> Ints:
        """Bytes over time of all together."""
        return np.asarray(self._held.sum(axis=1))


class Truth:
    """What the driver or the kernel says of one tier, over time."""

    def __init__(self, tier: str) -> None:
        self.history = History()
        self._replaces = tier == "pageable"  # a reading is of all processes that live then; of a GPU it is its own
        self._last: dict[int, int] = {}

    def add(self, times: Ints, parts: Ints, sizes: Ints) -> None:
        """Take new readings, in the order of time: of processes, or of devices."""
        for time_ns in np.unique(times).tolist():
            now = times == time_ns
            read = dict(zip(parts[now].tolist(), sizes[now].tolist(), strict=True))
            self._last = read if self._replaces else self._last | read
            self.history.read(time_ns, sum(self._last.values()))


class Live:
    """What is known so far of a run that is being recorded."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._histories = {tier: History() for tier in TIERS}
        self._truths = {tier: Truth(tier) for tier in TIERS}
        self._before: list[pa.Table] = []  # events on GPUs that no process of the run has used yet
        self._gpus = np.zeros(0, dtype=np.int64)  # that one has used
        self._phases: dict[tuple[str, int, int], int | None] = {}
        self._end = 1  # in ns, of what is known
        self._told_ns = 0

    def look(self) -> bool:
        """Take what is new; whether it is to be told."""
        events, totals, phases = (self._feed.new_coded(table) for table in ("events", "totals", "phases"))
        if not (events.num_rows or totals.num_rows or phases.num_rows):
            return False
        if events.num_rows:
            self._add_events(events)
        if totals.num_rows:
            self._add_totals(totals)
        for phase in phases.to_pylist():
            self._phases[phase["name"], phase["start_ns"], phase["depth"]] = phase["end_ns"]
        for column in (events["time_ns"], totals["time_ns"], phases["start_ns"]):
            self._end = max([self._end, *(chunk[-1].as_py() for chunk in column.chunks if len(chunk))])
        histories = [*self._histories.values(), *(truth.history for truth in self._truths.values())]
        is_seen = phases.num_rows or any(history.is_seen_to_move() for history in histories)
        if not is_seen and self._end - self._told_ns < TELL_AGAIN_NS:
            return False
        for history in histories:
            history.tell()
        self._told_ns = self._end
        return True

    def _add_events(self, events: pa.Table) -> None:
        events = self._of_ours(events)
        times, owners, sizes = (numbers(events, column) for column in ("time_ns", "owner", "bytes"))
        change = np.where(self._named(events, "kind", "free"), -sizes, sizes)
        for tier, history in self._histories.items():
            rows = self._named(events, "tier", tier) & self._named(events, "layer", OUTER_LAYER[tier])
            if rows.any():
                history.add(times[rows], owners[rows], change[rows])

    def _of_ours(self, events: pa.Table) -> pa.Table:
        """The events on the GPUs that the run has used by now; those on others wait until it does."""
        self._gpus = np.union1d(self._gpus, devices.used(events, self._feed.id("driver")))
        events = pa.concat_tables([*self._before, events])
        ours = devices.is_of(events, self._gpus)
        self._before = [] if ours.all() else [events.filter(pa.array(~ours))]
        return events.filter(pa.array(ours)) if self._before else events

    def _add_totals(self, totals: pa.Table) -> None:
        totals = totals.filter(pa.array(devices.is_of(totals, self._gpus)))
        for tier, part in (("gpu", "device"), ("pageable", "process")):
            rows = self._named(totals, "tier", tier) & self._named(totals, "name", TRUTH[tier])
            if rows.any():
                self._truths[tier].add(*(numbers(totals, column)[rows] for column in ("time_ns", part, "bytes")))

    def _named(self, rows: pa.Table, column: str, name: str) -> Mask:
        return np.asarray(numbers(rows, column) == self._feed.id(name))

    def answer(self) -> Answer:
        """What a page needs to draw it; the same columns as a timeline's series."""
        tier = next((tier for tier in TIERS if len(self._histories[tier].times)), TIERS[-1])
        history, told = self._histories[tier], self._truths[tier].history
        bands = history.bands(self._feed.names)
        facts = {
            "live": True,
            "tier": tier,
            "start": 0,
            "end": self._end,
            "bands": [{"name": name, **vars(colour_of(name))} for name in bands],
            "phases": [
                {"name": name, "start": start, "end": end or self._end, "open": end is None, "depth": depth}
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
