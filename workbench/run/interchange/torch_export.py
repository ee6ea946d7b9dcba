"""A run written as a memory snapshot that PyTorch's own viewers read.

Blocks become `alloc` and `free_*` entries, driver and host memory becomes segments. What PyTorch has no word for
(owner, tier, taken bytes) stands under keys of its own, which the viewers pass over and an import reads back.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from workbench.run.interchange.files import Tables, replacing
from workbench.run.interchange.intervals import Intervals, subtract
from workbench.run.interchange.safe_pickle import collector_paused
from workbench.run.interchange.stack_table import torch_frames

Entry = dict[str, Any]
Place = tuple[int, int]  # device (-1: the host), process

_PROTOCOL = 4  # the viewer reads 2 to 4


def export_snapshot(run: Tables, path: Path, overwrite: bool = False) -> None:
    """Write `run` to `path` for torch.cuda._memory_viz and pytorch.org/memory_viz."""
    with replacing(path, overwrite) as temporary, collector_paused(), temporary.open("wb") as file:
        pickle.dump(_snapshot(run), file, protocol=_PROTOCOL)


def _snapshot(run: Tables) -> Entry:
    frames = {row["stack"]: torch_frames(row["frames"]) for row in run.table("stacks").to_pylist()}
    events = run.table("events").to_pylist()
    order = _order({(event["device"], event["process"]) for event in events})
    histories = {place: _History(number, frames) for place, number in order.items()}
    for event in events:
        histories[event["device"], event["process"]].add(event)
    numbered = {history.number: history for history in histories.values()}
    places = {number: place for place, number in order.items()}
    count = max(numbered, default=-1) + 1
    return {
        "segments": [segment for number in sorted(numbered) for segment in numbered[number].segments()],
        "device_traces": [numbered[number].entries() if number in numbered else [] for number in range(count)],
        "allocator_settings": {},
        "external_annotations": _annotations(run),
        "places": [_place(*places.get(number, (number, 0))) for number in range(count)],
    }


def _place(device: int, process: int) -> Entry:
    return {"device": device, "process": process}


def _order(places: set[Place]) -> dict[Place, int]:
    """The number of each place's trace: its device's, then the host; several processes are counted through."""
    in_order = sorted(places, key=lambda place: (place[1], place[0] < 0, place[0]))
    if len({process for _, process in places}) > 1:
        return {place: number for number, place in enumerate(in_order)}
    last = max((device for device, _ in places), default=-1)
    return {place: place[0] if place[0] >= 0 else last + 1 for place in in_order}


class _History:
    """The events of one place, and what they leave in use."""

    def __init__(self, number: int, frames: dict[int, list[Entry]]) -> None:
        self.number = number
        self._frames = frames
        self._entries: list[Entry] = []
        self._segments = Intervals()
        self._outer: list[Entry] = []  # events of segments, by the number that `_segments` keeps
        self._blocks: dict[int, Entry] = {}
        self._uncovered: list[tuple[int, int]] = []  # blocks that lay in no segment
        self._mapped = False  # a block once lay across segments: they are parts of an expandable one

    def add(self, event: Entry) -> None:
        """Append an event; frees find the stack of their allocation."""
        if event["layer"] == "allocator":
            self._add_block(event)
        else:
            self._add_segment(event)

    def _add_block(self, event: Entry) -> None:
        start = event["address"]
        if event["kind"] == "alloc":
            self._blocks[start] = event
            self._cover(start, start + event["bytes"])
            self._entries.append(self._entry("alloc", event, event))
            return
        origin = self._blocks.pop(start, event)
        self._entries.append(self._entry("free_requested", event, origin))
        self._entries.append(self._entry("free_completed", event, origin))

    def _cover(self, start: int, end: int) -> None:
        if self._segments.gaps(start, end):
            self._uncovered.append((start, end))
        elif len(self._segments.within(start, end)) > 1:
            self._mapped = True

    def _add_segment(self, event: Entry) -> None:
        start, end = event["address"], event["address"] + event["bytes"]
        if event["kind"] == "alloc":
            for old, _, _ in self._segments.within(start, end):  # a free was never seen
                self._segments.remove(old)
            if start < end:
                self._segments.add(start, end, len(self._outer))
            self._outer.append(event)
            self._entries.append(self._entry("segment_alloc", event, event))
            return
        origin = event
        for old, _, number in self._segments.within(start, end):
            origin = self._outer[number]
            self._segments.remove(old)
        self._entries.append(self._entry("segment_free", event, origin))

    def _entry(self, action: str, event: Entry, origin: Entry) -> Entry:
        return {
            "action": action,
            "addr": event["address"],
            "size": event["asked"] if event["layer"] == "allocator" else event["bytes"],
            "stream": event["stream"],
            "time_us": event["time_ns"] // 1000,
            **self._common(origin),
        }

    def _common(self, event: Entry) -> Entry:
        return {
            "frames": self._frames.get(event["stack"], []),
            "user_metadata": event["tag"] or "",
            "owner": event["owner"],
            "tier": event["tier"],
            "layer": event["layer"],
            "taken": event["bytes"],
        }

    def entries(self) -> list[Entry]:
        """The trace. Mapped segments get the words that make the viewer join neighbours."""
        if self._mapped:
            words = {"segment_alloc": "segment_map", "segment_free": "segment_unmap"}
            for entry in self._entries:
                entry["action"] = words.get(entry["action"], entry["action"])
        return self._entries

    def segments(self) -> list[Entry]:
        """What is in use at the end, each segment cut into its blocks and the gaps between them."""
        blocks = sorted(self._blocks.values(), key=lambda event: int(event["address"]))
        for event in blocks:  # its segment may have gone before it
            self._cover(event["address"], event["address"] + event["bytes"])
        starts = np.array([event["address"] for event in blocks], dtype=np.uint64)
        found = []
        for start, end, origin, real in self._ranges():
            first, last = np.searchsorted(starts, np.array([start, end], dtype=np.uint64))
            inside = [self._block(event) for event in blocks[first:last]]
            found.append(self._segment(start, end, origin, real, inside))
        return found

    def _ranges(self) -> list[tuple[int, int, Entry, bool]]:
        """Where the segments of the end lie, and covers for blocks that never had one: the viewer fails without."""
        real: list[tuple[int, int, Entry, bool]] = []
        for start, end, number in self._segments:
            origin = self._outer[number]
            if self._mapped and real and real[-1][1] == start and real[-1][2]["stream"] == origin["stream"]:
                real[-1] = (real[-1][0], end, real[-1][2], True)
            else:
                real.append((start, end, origin, True))
        taken = [(start, end) for start, end, _, _ in real]
        cover = {"stream": 0, "stack": 0, "tag": None, "owner": "", "tier": "gpu", "layer": "driver", "bytes": 0}
        covers = [(a, b, cover, False) for whole in _joined(self._uncovered) for a, b in subtract(whole, taken)]
        return sorted(real + covers, key=lambda each: each[0])

    def _block(self, event: Entry) -> Entry:
        return {
            "address": event["address"],
            "size": event["bytes"],
            "requested_size": event["asked"],
            "state": "active_allocated",
            **self._common(event),
        }

    def _segment(self, start: int, end: int, origin: Entry, real: bool, blocks: list[Entry]) -> Entry:
        used = sum(block["size"] for block in blocks)
        return {
            "device": self.number,
            "address": start,
            "total_size": end - start,
            "stream": origin["stream"],
            "segment_type": "large" if end - start > 2 << 20 else "small",
            "segment_pool_id": (0, 0),
            "is_expandable": self._mapped,
            "allocated_size": used,
            "active_size": used,
            "requested_size": sum(block["requested_size"] for block in blocks),
            "blocks": _with_gaps(start, end, blocks),
            **self._common(origin),
            "taken": end - start,
            "covers_only": not real,
        }


def _with_gaps(start: int, end: int, blocks: list[Entry]) -> list[Entry]:
    filled, at = [], start
    for block in blocks:
        filled += _gap(at, block["address"])
        filled.append(block)
        at = block["address"] + block["size"]
    return filled + _gap(at, end)


def _gap(start: int, end: int) -> list[Entry]:
    if start >= end:
        return []
    return [{"address": start, "size": end - start, "requested_size": 0, "state": "inactive", "frames": []}]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _annotations(run: Tables) -> list[Entry]:
    marks: dict[int, list[tuple[str, str, int]]] = defaultdict(list)  # microsecond -> name, stage, process
    for phase in run.table("phases").to_pylist():
        marks[phase["start_ns"] // 1000].append((phase["name"], "START", phase["process"]))
        if phase["end_ns"] is not None:
            marks[phase["end_ns"] // 1000].append((phase["name"], "END", phase["process"]))
    return [
        {"name": name, "stage": stage, "device": 0, "time_us": time_us, "process": process}
        for time_us in sorted(marks)
        for name, stage, process in sorted(marks[time_us], key=lambda mark: mark[1] == "START")
    ]
