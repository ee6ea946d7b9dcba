"""What a screen asks of a run, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from workbench.errors import UsageError, WorkbenchError
from workbench.run import schema
from workbench.run.columns import Ints, Mask, codes, equals, numbers
from workbench.run.ledger import Ledger, readings, truth
from workbench.run.run import Run
from workbench.view.addresses import Addresses
from workbench.view.allocations import NEVER, Allocations, Frames
from workbench.view.attribution import Attribution, attribute
from workbench.view.bands import Bands
from workbench.view.colours import colour_of
from workbench.view.crossing import Answer
from workbench.view.steps import Steps

COLUMNS = ("time_ns", "kind", "layer", "tier", "owner", "tag", "bytes")
PLACES = ("address", "process")  # read when they are asked for: a timeline of malloc's needs none
MOST_COLUMNS = 8192
MOST_ROWS_A_PAGE = 1000


class Screen:
    """Answers questions about one run: plain dicts in, tables out. What an answer needs is kept for the next."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.events = run.columns("events", COLUMNS)
        self.tiers = [tier for tier in schema.TIERS if equals(self.events, "tier", tier).any()]
        self._attributions: dict[str, Attribution] = {}
        self._bands: dict[tuple[str, str], Bands] = {}
        self._allocations: dict[str, Allocations] = {}
        self._addresses: dict[str, Addresses] = {}
        self._frames: Frames | None = None
        self._asked: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "run": self.head,
            "series": self.series,
            "ledger": self.ledger,
            "allocations": self.allocations,
            "stack": self.stack,
            "addresses": self.addresses,
        }

    def answer(self, question: dict[str, Any]) -> Answer:
        """The answer to `{"ask": …}`; an error is an answer too."""
        try:
            if question.get("ask") not in self._asked:
                raise UsageError(f"nobody can answer {question.get('ask')!r}")
            return self._asked[question["ask"]](question)
        except WorkbenchError as error:
            return Answer({"error": str(error)}, {})

    @cached_property
    def placed(self) -> pa.Table:
        """The events with their addresses and processes."""
        places = self.run.columns("events", PLACES)
        return pa.table(self.events.columns + places.columns, names=[*COLUMNS, *PLACES])

    @property
    def end_ns(self) -> int:
        """The end of the run, or of what is known of it."""
        if self.run.manifest.duration_s is not None:
            return int(self.run.manifest.duration_s * 1e9)
        times = numbers(self.events, "time_ns")
        return int(times[-1]) if len(times) else 1

    def head(self, _question: dict[str, Any] | None = None) -> Answer:
        """Which run it is, what can be looked at, and its phases."""
        manifest, phases = self.run.manifest, self.run.table("phases")
        ends = [self.end_ns if end is None else end for end in phases["end_ns"].to_pylist()]
        facts = {
            "id": manifest.id,
            "name": manifest.name,
            "status": manifest.status,
            "started": manifest.started,
            "hardware": ", ".join(gpu["name"] for gpu in manifest.gpus) or manifest.host.get("cpu") or "",
            "versions": manifest.versions,
            "lost": manifest.lost,
            "error": (manifest.error or {}).get("what"),
            "end": self.end_ns,
            "events": self.events.num_rows,
            "tiers": self.tiers,
        }
        columns = {
            "name": phases["name"].to_pylist(),
            "start": numbers(phases, "start_ns"),
            "end": np.array(ends, dtype=np.int64),
            "depth": numbers(phases, "depth").astype(np.int32),
            "process": numbers(phases, "process").astype(np.int32),
        }
        return Answer(facts, columns)

    def series(self, question: dict[str, Any]) -> Answer:
        """Bytes over time by band in a window, and of what matches a text; see `Bands.sample`."""
        tier, bands = self._tier_and_bands(question)
        start, end, columns = self._window(question)
        samples = bands.sample(start, end, columns, question.get("only") or ())
        truths = readings(self.run.table("totals"), tier)
        truths = truths[truths <= end]
        facts = {
            "tier": tier,
            "by": bands.by,
            "start": start,
            "end": end,
            "shown": samples.shown,
            "bands": [
                {"name": band.name, "of": band.of, "peak": band.peak, **vars(colour_of(band.name))}
                for band in bands.bands
            ],
        }
        tables: dict[str, Any] = {"time": samples.times_ns}
        tables |= {f"band {place}": row for place, row in enumerate(samples.bytes)}
        tables["truth_time"] = truths
        tables["truth"] = np.array([truth(self.run.table("totals"), tier, int(at)) for at in truths], dtype=np.int64)
        if question.get("match"):
            times, values = self._matching(question, bands, start, end, columns)
            tables |= {"match_time": times, "match": values}
        return Answer(facts, tables)

    def _matching(
        self, question: dict[str, Any], bands: Bands, start: int, end: int, columns: int
    ) -> tuple[Ints, Ints]:
        allocations = self.allocations_of(question["tier"])
        steps = allocations.steps(self._chosen(question, allocations, bands))
        edges = np.searchsorted(bands.times_ns, np.linspace(start, end, columns + 1), side="right")
        return _outline(steps, edges, bands.times_ns, start)

    def ledger(self, question: dict[str, Any]) -> Answer:
        """Who holds the bytes at a moment."""
        tier, _ = self._tier_and_bands(question)
        ledger: Ledger = self.run.ledger(tier, int(question["at"]))
        read = readings(self.run.table("totals"), tier)
        age = ledger.time_ns - int(read[read <= ledger.time_ns].max(initial=0))
        facts = {"tier": tier, "at": ledger.time_ns, "used": ledger.used, "age": age, "error": ledger.error}
        facts |= {"explained": ledger.explained, "unexplained": ledger.unexplained}
        columns: dict[str, Any] = {
            "owner": [entry.owner for entry in ledger.entries],
            "tag": [entry.tag or "" for entry in ledger.entries],
            "bytes": np.array([entry.bytes for entry in ledger.entries], dtype=np.int64),
        }
        return Answer({"ledger": facts}, columns)

    def allocations(self, question: dict[str, Any]) -> Answer:
        """A page of the allocations of a band, of a moment or window, of those that match a text."""
        _, bands = self._tier_and_bands(question)
        found = self.allocations_of(question["tier"])
        start, end, _ = self._window(question)
        which = self._chosen(question, found, bands) & found.between(start, end)
        limit = min(int(question.get("limit", 50)), MOST_ROWS_A_PAGE)
        order, descending = question.get("order", "bytes"), bool(question.get("descending", True))
        page = found.page(which, order, descending, int(question.get("offset", 0)), limit)
        return Answer({"count": page.count, "bytes": page.bytes}, self._listed(found, page.chosen))

    def _listed(self, found: Allocations, chosen: Ints) -> dict[str, Any]:
        events = self.placed.take(found.rows[chosen])
        owners, owner_texts = codes(events, "owner")
        tags, tag_texts = codes(events, "tag")
        ends = found.ends[chosen]
        return {
            "start": found.starts[chosen],
            "end": np.where(ends == NEVER, np.nan, ends.astype(np.float64)),
            "bytes": found.bytes[chosen],
            "owner": [owner_texts[one] or "" for one in owners],
            "tag": [tag_texts[one] or "" for one in tags],
            "stack": found.stacks[chosen].astype(np.int32),
            "top": [self._top(int(stack)) for stack in found.stacks[chosen]],
            "address": [f"{int(one):#x}" for one in numbers(events, "address")],
            "process": numbers(events, "process").astype(np.int32),
        }

    def _top(self, stack: int) -> str:
        frames = self.frames.of(stack)
        return frames[0] if frames else ""

    def stack(self, question: dict[str, Any]) -> Answer:
        """The frames of a stack, innermost first."""
        return Answer({}, {"frame": self.frames.of(int(question["stack"]))})

    def addresses(self, question: dict[str, Any]) -> Answer:
        """Boxes in address and time; see `Boxes`."""
        tier, bands = self._tier_and_bands(question)
        start, end, columns = self._window(question)
        found = self.allocations_of(tier)
        if tier not in self._addresses:
            self._addresses[tier] = Addresses(self.placed, found)
        only = self._chosen(question, found, bands) if question.get("match") else None
        boxes = self._addresses[tier].boxes(start, end, columns, int(question["rows"]), only)
        of_key = np.zeros(len(found.made.names) + 1, dtype=np.int32)
        for place, band in enumerate(bands.bands):
            of_key[list(band.keys)] = place
        names = [{"name": band.name, **vars(colour_of(band.name))} for band in bands.bands]
        facts = {"start": start, "end": end, "hidden": boxes.hidden, "rows": int(question["rows"]), "bands": names}
        columns_ = {name: getattr(boxes, name) for name in ("left", "right", "low", "high")}
        columns_ |= {"band": of_key[found.keys[boxes.chosen]], "bytes": found.bytes[boxes.chosen]}
        ranges = {
            "range_address": boxes.ranges[:, 0],
            "range_bytes": boxes.ranges[:, 1],
            "range_row": boxes.ranges[:, 2],
        }
        return Answer(facts, columns_ | ranges)

    @property
    def frames(self) -> Frames:
        """The stacks of the run."""
        if self._frames is None:
            self._frames = Frames(self.run.table("stacks"))
        return self._frames

    def bands(self, tier: str, by: str) -> Bands:
        """The bands of a tier by owner or by tag."""
        if (tier, by) not in self._bands:
            self._bands[tier, by] = Bands(self._made(tier), by)
        return self._bands[tier, by]

    @property
    def _stacks(self) -> Ints:
        return numbers(self.run.columns("events", ["stack"]), "stack")

    def _made(self, tier: str) -> Attribution:
        if tier not in self._attributions:
            self._attributions[tier] = attribute(self.events if tier == "pageable" else self.placed, tier)
        return self._attributions[tier]

    def allocations_of(self, tier: str) -> Allocations:
        """Every allocation of a tier."""
        if tier not in self._allocations:
            self._allocations[tier] = Allocations(self.placed, self._made(tier), self._stacks)
        return self._allocations[tier]

    def _tier_and_bands(self, question: dict[str, Any]) -> tuple[str, Bands]:
        tier = str(question.get("tier"))
        if tier not in self.tiers:
            raise UsageError(f"this run has nothing in a tier {tier!r}; it has {', '.join(self.tiers) or 'no events'}")
        return tier, self.bands(tier, str(question.get("by", "owner")))

    @staticmethod
    def _window(question: dict[str, Any]) -> tuple[int, int, int]:
        start, end = int(question["start"]), int(question["end"])
        columns = min(max(int(question.get("columns", 1)), 1), MOST_COLUMNS)
        return start, max(end, start), columns

    def _chosen(self, question: dict[str, Any], found: Allocations, bands: Bands) -> Mask:
        which = np.ones(len(found.rows), dtype=bool)
        if question.get("band") is not None:
            keys = [key for band in bands.bands if band.name == question["band"] for key in band.keys]
            which &= found.of_keys(tuple(keys))
        if question.get("match"):
            wanted = str(question["match"]).casefold()
            named = [
                n for n, key in enumerate(found.made.names) if any(wanted in (one or "").casefold() for one in key)
            ]
            which &= found.of_keys(tuple(named)) | self.frames.holding(str(question["match"]))[found.stacks]
        return which


def _outline(steps: Steps, edges: Ints, times_ns: Ints, start: int) -> tuple[Ints, Ints]:
    """One step function in a window: its highest and last of every column."""
    filled = edges[1:] > edges[:-1]
    places = np.union1d(steps.peaks(edges, filled), edges[1:][filled] - 1)
    return np.append(start, times_ns[places]), steps.after(np.append(edges[0] - 1, places))
