"""The events of one device, from its trace and from what was in use when the snapshot was taken.

A trace is the tail of a history: it frees what it never saw allocated, and the snapshot shows blocks it does not
mention. Both were there before its first entry, and get an allocation at the start, so that allocations minus frees
give exactly the state at the end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from workbench.run import schema
from workbench.run.interchange.intervals import Intervals, Range, subtract
from workbench.run.interchange.snapshot_shape import MOST_BYTES, Entry, Segment, Trace
from workbench.run.interchange.stack_table import StackTable, plain_text

ALLOC, FREE = 0, 1  # positions in schema.KINDS
OWNERS = {"driver": "libc10_cuda.so", "allocator": "torch", "host": "libc.so.6"}


@dataclass
class Things:
    """What was allocated, as columns: an alloc and its free point at the same row."""

    stacks: StackTable
    layer: list[str] = field(default_factory=list)
    tier: list[str] = field(default_factory=list)
    owner: list[str] = field(default_factory=list)
    tag: list[str | None] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    address: list[int] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)
    stack: list[int] = field(default_factory=list)
    place: list[int] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)

    def add(self, place: int, layer: str, address: int, asked: int, stream: int, entry: Entry) -> int:
        """A new row; `entry` is where the snapshot tells of it."""
        get = entry.get
        taken, tier, owner, tag = get("taken"), get("tier"), get("owner"), get("user_metadata")
        self.layer.append("host" if layer == "driver" and get("layer") == "host" else layer)
        self.tier.append(tier if tier in schema.TIERS else "gpu")
        self.owner.append(self._text(owner) or OWNERS[layer])
        self.tag.append(self._text(tag))
        self.taken.append(taken if type(taken) is int and 0 <= taken <= MOST_BYTES else asked)
        self.asked.append(asked)
        self.address.append(address)
        self.stream.append(stream)
        self.stack.append(self.stacks.number(get("frames")))
        self.place.append(place)
        return len(self.place) - 1

    def piece(self, whole: int, address: int, size: int) -> int:
        """A new row for the part of `whole` that is left after the rest was given back."""
        self.layer.append(self.layer[whole])
        self.tier.append(self.tier[whole])
        self.owner.append(self.owner[whole])
        self.tag.append(self.tag[whole])
        self.stream.append(self.stream[whole])
        self.stack.append(self.stack[whole])
        self.place.append(self.place[whole])
        self.address.append(address)
        self.taken.append(size)
        self.asked.append(size)
        return len(self.place) - 1

    def _text(self, value: object) -> str | None:
        if not value or not isinstance(value, str):
            return None
        return self._texts.get(value) or self._texts.setdefault(value, plain_text(value))


class Replay:
    """Walks one trace. `before` are the things from before it, the three lists its events."""

    def __init__(self, place: int, things: Things) -> None:
        self.place = place
        self.before: list[int] = []
        self.times: list[int] = []
        self.kinds: list[int] = []
        self.things: list[int] = []
        self.corrected = 0  # events added or moved because trace and end state disagree
        self.ignored: Counter[str] = Counter()
        self._all = things
        self._blocks: dict[int, int] = {}  # address -> thing
        self._segments = Intervals()
        self._now = 0

    def run(self, trace: Trace) -> None:
        """Turn every entry of `trace` into events."""
        for action, address, size, stream, time, entry in trace.rows():
            if time > self._now:
                self._now = time
            elif time < self._now:
                self.corrected += 1
            if action == "alloc":
                self._allocate(address, size, stream, entry)
            elif action == "free_completed":
                self._release(address, size, stream, entry)
            elif action in ("segment_alloc", "segment_map"):
                self._take_segment(address, address + size, stream, entry)
            elif action in ("segment_free", "segment_unmap"):
                self._take_missing(address, address + size, stream, entry)
                self._give_back(address, address + size)
            elif action not in ("free_requested", "snapshot", "oom"):  # a requested free still holds its bytes
                self.ignored[action[:40]] += 1

    def end(self, segments: list[Segment]) -> None:
        """Make what is left equal `segments`, the state the snapshot shows."""
        real = [segment for segment in segments if segment.entry.get("covers_only") is not True]
        for segment in real:
            self._take_missing(segment.address, segment.address + segment.size, segment.stream, segment.entry)
        held: list[Range] = sorted((segment.address, segment.address + segment.size) for segment in real)
        for start, end, _ in list(self._segments):
            for gone in subtract((start, end), held):
                self.corrected += 1
                self._give_back(*gone)
        self._end_blocks(segments)

    def _end_blocks(self, segments: list[Segment]) -> None:
        live, things = self._blocks, self._all
        for segment in segments:
            for block in segment.blocks:
                thing = live.pop(block.address, None)
                if thing is None:
                    stream = segment.stream
                    thing = things.add(self.place, "allocator", block.address, block.requested, stream, block.entry)
                    self.before.append(thing)
                things.taken[thing], things.asked[thing] = block.size, block.requested
        self.corrected += len(live)
        for thing in live.values():
            self._emit(FREE, thing)

    def _emit(self, kind: int, thing: int) -> None:
        self.times.append(self._now)
        self.kinds.append(kind)
        self.things.append(thing)

    def _allocate(self, address: int, size: int, stream: int, entry: Entry) -> None:
        lost = self._blocks.get(address)
        if lost is not None:  # its free is not in the trace
            self.corrected += 1
            self._emit(FREE, lost)
        thing = self._blocks[address] = self._all.add(self.place, "allocator", address, size, stream, entry)
        self._emit(ALLOC, thing)

    def _release(self, address: int, size: int, stream: int, entry: Entry) -> None:
        thing = self._blocks.pop(address, None)
        if thing is None:
            thing = self._all.add(self.place, "allocator", address, size, stream, {**entry, "frames": None})
            self.before.append(thing)
        self._emit(FREE, thing)

    def _take_segment(self, start: int, end: int, stream: int, entry: Entry) -> None:
        if start == end:
            return
        if self._segments.within(start, end):  # its free is not in the trace
            self.corrected += 1
            self._give_back(start, end)
        thing = self._all.add(self.place, "driver", start, end - start, stream, entry)
        self._segments.add(start, end, thing)
        self._emit(ALLOC, thing)

    def _take_missing(self, start: int, end: int, stream: int, entry: Entry) -> None:
        """What of [start, end) is not known was there before the trace."""
        for a, b in self._segments.gaps(start, end) if start < end else ():
            thing = self._all.add(self.place, "driver", a, b - a, stream, entry)
            self._segments.add(a, b, thing)
            self.before.append(thing)

    def _give_back(self, start: int, end: int) -> None:
        """Free [start, end): what is mapped piece by piece can be unmapped in other pieces, so parts may stay."""
        for a, b, thing in self._segments.within(start, end):
            self._segments.remove(a)
            self._emit(FREE, thing)
            for c, d in subtract((a, b), [(start, end)]):
                part = self._all.piece(thing, c, d - c)
                self._segments.add(c, d, part)
                self._emit(ALLOC, part)
