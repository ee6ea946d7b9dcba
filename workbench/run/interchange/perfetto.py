"""A run as a trace that ui.perfetto.dev and trace_processor open.

Each process has a counter of bytes in use for every tier and owner, a track of its phases, and a track of copies for
every stream. Field numbers are those of Perfetto's public perfetto_trace.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.run.columns import codes, equals, numbers
from workbench.run.interchange import protobuf as pb
from workbench.run.interchange.files import Tables, replacing

_PACKET = 1  # Trace
_TIMESTAMP, _SEQUENCE, _EVENT, _SEQUENCE_FLAGS, _TRACK = 8, 10, 11, 13, 60  # TracePacket
_UUID, _NAME, _PROCESS, _PARENT, _COUNTER = 1, 2, 3, 5, 8  # TrackDescriptor
_PID, _PROCESS_NAME = 1, 6  # ProcessDescriptor
_UNIT, _IS_BYTES = 3, 3  # CounterDescriptor, and UNIT_SIZE_BYTES
_ANNOTATION, _TYPE, _TRACK_UUID, _EVENT_NAME, _VALUE = 4, 9, 11, 23, 30  # TrackEvent
_BEGIN, _END, _COUNT = 1, 2, 4  # TrackEvent.Type
_KEY, _AMOUNT = 10, 4  # DebugAnnotation: name, int_value

_IN_BYTES = pb.message(_COUNTER, pb.number(_UNIT, _IS_BYTES))
_ON_SEQUENCE = pb.number(_SEQUENCE, 1)
_FRESH_SEQUENCE = 1  # SEQ_INCREMENTAL_STATE_CLEARED
_ROWS = 1 << 18  # counter values encoded at once, ~10 MB

Slice = tuple[int, int | None, str, int | None]
"""Start, end (none: it never ended), name, bytes."""


def export_perfetto(run: Tables, path: Path, overwrite: bool = False) -> None:
    """Write `run` to `path` as a Perfetto trace."""
    with replacing(path, overwrite) as temporary, temporary.open("wb") as file:
        file.write(_packet(pb.number(_SEQUENCE_FLAGS, _FRESH_SEQUENCE)))
        for part in _Trace(run).packets():
            file.write(part)


def _packet(*fields: bytes) -> bytes:
    return pb.message(_PACKET, _ON_SEQUENCE, *fields)


class _Trace:
    """Hands out track numbers while it walks a run's tables."""

    def __init__(self, run: Tables) -> None:
        self._run = run
        self._fresh = count(1)
        self._processes: dict[int, int] = {}

    def packets(self) -> Iterator[bytes]:
        """The trace, part by part."""
        yield from self._counters(self._run.table("events"))
        yield from self._phases(self._run.table("phases"))
        yield from self._copies(self._run.table("copies"))

    def _track(self, name: str, process: int, *extra: bytes) -> tuple[int, bytes]:
        """A new track of a process, and the packets that declare it."""
        declared = b""
        if process not in self._processes:
            self._processes[process] = parent = next(self._fresh)
            title = f"{self._run.manifest.name} {process}" if process else self._run.manifest.name
            # 0 means that the process is not known; as a number it would name the kernel's idle process
            who = [pb.message(_PROCESS, pb.number(_PID, process), pb.text(_PROCESS_NAME, title))] if process else []
            declared = _packet(pb.message(_TRACK, pb.number(_UUID, parent), pb.text(_NAME, title), *who))
        uuid = next(self._fresh)
        parent_field = pb.number(_PARENT, self._processes[process])
        own = pb.message(_TRACK, pb.number(_UUID, uuid), pb.text(_NAME, name), parent_field, *extra)
        return uuid, declared + _packet(own)

    def _counters(self, events: pa.Table) -> Iterator[bytes]:
        """Bytes in use by owner. Blocks lie inside driver or host memory, so theirs say so in the name."""
        time_ns, group = numbers(events, "time_ns"), _groups(events)
        signed = np.where(equals(events, "kind", "free"), -1, 1) * numbers(events, "bytes")
        order = np.argsort(group, kind="stable")
        edges = np.flatnonzero(np.diff(group[order])) + 1
        for rows in np.split(order, edges) if len(order) else ():
            first = events.slice(rows[0], 1).to_pylist()[0]
            uuid, declared = self._track(_holder(first), first["process"], _IN_BYTES)
            yield declared
            yield from _values(uuid, time_ns[rows], np.cumsum(signed[rows]))

    def _phases(self, phases: pa.Table) -> Iterator[bytes]:
        """One track a depth: phases of one depth follow each other."""
        tracks: dict[tuple[int, int], list[Slice]] = {}
        for row in phases.to_pylist():
            key = row["process"], row["depth"]
            tracks.setdefault(key, []).append((row["start_ns"], row["end_ns"], row["name"], None))
        for (process, depth), slices in sorted(tracks.items()):
            yield from self._slices(f"phases {depth}" if depth else "phases", process, slices)

    def _copies(self, copies: pa.Table) -> Iterator[bytes]:
        tracks: dict[tuple[int, int, int], list[Slice]] = {}
        for row in copies.to_pylist():
            key = row["process"], row["device"], row["stream"]
            began = row["time_ns"] if row["start_ns"] is None else row["start_ns"]
            ended = began if row["end_ns"] is None else row["end_ns"]  # a moment, where it was only seen submitted
            each = began, ended, row["direction"] or "copy", row["bytes"]
            tracks.setdefault(key, []).append(each)
        for (process, device, stream), slices in sorted(tracks.items()):
            yield from self._slices(f"copies, device {device}, stream {stream:#x}", process, slices)

    def _slices(self, name: str, process: int, slices: Iterable[Slice]) -> Iterator[bytes]:
        uuid, declared = self._track(name, process)
        yield declared
        for start, end, label, amount in sorted(slices, key=lambda each: each[0]):
            size = [_amount(amount)] if amount is not None else []
            yield _event(start, uuid, _BEGIN, pb.text(_EVENT_NAME, label), *size)
            if end is not None:
                yield _event(end, uuid, _END)


def _groups(events: pa.Table) -> npt.NDArray[np.int64]:
    """A number for each event; equal where process, device, layer, tier and owner are."""
    group = np.zeros(events.num_rows, dtype=np.int64)
    for name in ("process", "device", "tier", "layer", "owner"):
        column = numbers(events, name) if name in ("process", "device") else codes(events, name)[0]
        values, inverse = np.unique(column, return_inverse=True)
        group = group * len(values) + inverse
    return group


def _holder(event: dict[str, Any]) -> str:
    """What a counter is called, from one of its events."""
    where = f"gpu {event['device']}" if event["tier"] == "gpu" else event["tier"]
    inside = " (blocks)" if event["layer"] == "allocator" else ""
    return f"{where}: {event['owner']}{inside}"


def _amount(value: int) -> bytes:
    return pb.message(_ANNOTATION, pb.text(_KEY, "bytes"), pb.number(_AMOUNT, value))


def _event(time_ns: int, uuid: int, kind: int, *fields: bytes) -> bytes:
    event = pb.message(_EVENT, pb.number(_TYPE, kind), pb.number(_TRACK_UUID, uuid), *fields)
    return _packet(pb.number(_TIMESTAMP, time_ns), event)


def _values(uuid: int, time_ns: npt.NDArray[np.int64], in_use: npt.NDArray[np.int64]) -> Iterator[bytes]:
    """Counter values, as `_event` would write them one by one."""
    head = pb.number(_TYPE, _COUNT) + pb.number(_TRACK_UUID, uuid)
    for first in range(0, len(time_ns), _ROWS):
        part = slice(first, first + _ROWS)
        rows = len(time_ns[part])
        event = pb.messages(_EVENT, pb.constant(head, rows), pb.numbers(_VALUE, in_use[part], 10))
        stamp = pb.numbers(_TIMESTAMP, time_ns[part], 9)
        yield pb.messages(_PACKET, pb.constant(_ON_SEQUENCE, rows), stamp, event).tobytes()
