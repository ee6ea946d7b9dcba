"""A PyTorch snapshot as unpickled, checked: after this every value has the type and range its name promises."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import WorkbenchError
from workbench.run.interchange.stack_table import plain_text

Entry = dict[str, Any]

MOST_BYTES = 1 << 48
MOST_ASKED = 1 << 56  # by a request that no device could serve
"""No device has as much; beyond it sums over many events would leave 64 bits."""
MOST_DEVICES = 1024
_LAST_ADDRESS = (1 << 64) - 1
_LAST_TIME = (1 << 63) // 1000 - 1  # microseconds that still fit as nanoseconds


@dataclass(frozen=True)
class Block:
    """A block in use when the snapshot was taken."""

    address: int
    size: int
    requested: int
    entry: Entry


@dataclass(frozen=True)
class Segment:
    """Driver memory held by the allocator when the snapshot was taken, with its blocks in use."""

    device: int
    address: int
    size: int
    stream: int
    entry: Entry
    blocks: list[Block]


@dataclass(frozen=True)
class Trace:
    """What the allocator of one device did, in order; column lists of one length."""

    entries: list[Entry]
    actions: list[str]
    addresses: list[int]
    sizes: list[int]
    streams: list[int]
    times: list[int]  # microseconds; the position where the file has no times

    def rows(self) -> Iterator[tuple[str, int, int, int, int, Entry]]:
        """Action, address, size, stream, time and the entry itself, one after the other."""
        return zip(self.actions, self.addresses, self.sizes, self.streams, self.times, self.entries, strict=True)


@dataclass(frozen=True)
class Snapshot:
    """The parts of a snapshot that an import uses."""

    segments: list[Segment]
    traces: list[Trace]
    annotations: list[Entry]  # name, stage, time_us
    settings: dict[str, object]
    places: list[Entry]  # device and process of each trace, where this project wrote the file
    timed: bool


def checked(loaded: object, file_bytes: int) -> Snapshot:
    """The snapshot in `loaded`; `file_bytes` bounds how much it can honestly describe."""
    whole: Entry = {"segments": loaded} if isinstance(loaded, list) else _entry(loaded, "the file")
    if not ("segments" in whole or "device_traces" in whole):
        raise WorkbenchError("the file has neither `segments` nor `device_traces`: it is no PyTorch memory snapshot")
    raw = [_entries(trace, "device_traces") for trace in _list(whole.get("device_traces", []), "device_traces")]
    if len(raw) > MOST_DEVICES:
        raise WorkbenchError(f"the snapshot names {len(raw)} devices: expected at most {MOST_DEVICES}")
    raw_segments = _entries(whole.get("segments", []), "segments")
    blocks = sum(len(_list(segment.get("blocks", []), "blocks")) for segment in raw_segments)
    if sum(map(len, raw)) + len(raw_segments) + blocks > file_bytes:  # each takes at least one byte
        raise WorkbenchError("the snapshot repeats its entries more often than its size allows: refused")
    timed = any("time_us" in trace[0] for trace in raw if trace)
    return Snapshot(
        segments=[_segment(segment) for segment in raw_segments],
        traces=[_trace(trace, timed) for trace in raw],
        annotations=_annotations(whole.get("external_annotations", [])) if timed else [],
        settings=_settings(whole.get("allocator_settings", {})),
        places=_entries(whole.get("places", []), "places"),
        timed=timed,
    )


def whole_numbers(values: Sequence[object], what: str, most: int, least: int = 0) -> list[int]:
    """`values`, if all are integers from `least` to `most`."""
    if not set(map(type, values)) <= {int}:
        wrong = next(value for value in values if type(value) is not int)
        raise WorkbenchError(f"the snapshot has {str(wrong)[:40]!r} as {what}: expected a whole number")
    numbers: list[int] = list(values)  # type: ignore[arg-type]
    if numbers and not (least <= min(numbers) and max(numbers) <= most):
        wrong = next(number for number in numbers if not least <= number <= most)
        raise WorkbenchError(f"the snapshot has {wrong:#x} as {what}: expected {least:#x} to {most:#x}")
    return numbers


def number_of(entry: Entry, key: str, most: int, default: int | None = None) -> int:
    """The integer at `key` of one entry."""
    return whole_numbers([entry.get(key, default)], key, most)[0]


def _trace(entries: list[Entry], timed: bool) -> Trace:
    actions = [entry.get("action") for entry in entries]
    if not set(map(type, actions)) <= {str}:
        raise WorkbenchError("the snapshot has an entry of device_traces without an action")
    times = [entry.get("time_us") for entry in entries] if timed else range(len(entries))
    return Trace(
        entries=entries,
        actions=actions,  # type: ignore[arg-type]
        addresses=whole_numbers([entry.get("addr", 0) for entry in entries], "addr", _LAST_ADDRESS),
        sizes=whole_numbers([entry.get("size", 0) for entry in entries], "size", MOST_ASKED),
        streams=whole_numbers([entry.get("stream", 0) for entry in entries], "stream", _LAST_ADDRESS),
        times=whole_numbers(times, "time_us", _LAST_TIME),
    )


def _segment(entry: Entry) -> Segment:
    address = number_of(entry, "address", _LAST_ADDRESS)
    return Segment(
        device=number_of(entry, "device", MOST_DEVICES - 1, 0),
        address=address,
        size=number_of(entry, "total_size", MOST_BYTES),
        stream=number_of(entry, "stream", _LAST_ADDRESS, 0),
        entry=entry,
        blocks=_blocks(address, _entries(entry.get("blocks", []), "blocks")),
    )


def _blocks(address: int, entries: list[Entry]) -> list[Block]:
    """The blocks in use; they lie end to end from `address`, also in files that do not say where each is."""
    found = []
    for entry in entries:
        size = number_of(entry, "size", MOST_BYTES)
        if str(entry.get("state")).startswith("active"):  # allocated, or its free waits for a stream
            requested = number_of(_with_history(entry), "requested_size", MOST_BYTES, size)
            found.append(Block(number_of(entry, "address", _LAST_ADDRESS, address), size, requested, entry))
        address = min(address + size, _LAST_ADDRESS)
    return found


def _with_history(entry: Entry) -> Entry:
    """The first files kept requested bytes in a list called history."""
    history = entry.get("history")
    if "requested_size" in entry or not isinstance(history, list) or not history:
        return entry
    return {"requested_size": _entry(history[0], "history").get("real_size")}


def _annotations(value: object) -> list[Entry]:
    entries = _entries(value, "external_annotations")
    kept = [entry for entry in entries if isinstance(entry.get("name"), str) and entry.get("stage") in ("START", "END")]
    whole_numbers([entry.get("time_us") for entry in kept], "time_us", _LAST_TIME)
    return kept


def _settings(value: object) -> dict[str, object]:
    settings = _entry(value, "allocator_settings")
    return {plain_text(str(key)): _plain(settings[key]) for key in list(settings)[:64]}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {plain_text(str(key)): _plain_number(value[key]) for key in list(value)[:64]}
    return _plain_number(value)


def _plain_number(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 64:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return plain_text(value) if isinstance(value, str) else type(value).__name__


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise WorkbenchError(f"the snapshot has {type(value).__name__} as {what}: expected a list")
    return value


def _entries(value: object, what: str) -> list[Entry]:
    entries = _list(value, what)
    if not set(map(type, entries)) <= {dict}:
        raise WorkbenchError(f"the snapshot has something other than dicts in {what}")
    return entries  # type: ignore[return-value]


def _entry(value: object, what: str) -> Entry:
    if not isinstance(value, dict):
        raise WorkbenchError(f"{what} holds {type(value).__name__}: expected the dict of a PyTorch memory snapshot")
    return value
