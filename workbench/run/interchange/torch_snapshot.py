"""PyTorch's memory snapshots read as tables of a run.

The file is the pickle that `torch.cuda.memory._dump_snapshot` writes. Its traces say when blocks and segments came and
went; its segments say what was in use at the end. Times become nanoseconds since the first entry.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.run import schema
from workbench.run.interchange.files import Imported, read_whole
from workbench.run.interchange.safe_pickle import collector_paused, load_plain
from workbench.run.interchange.snapshot_replay import Replay, Things
from workbench.run.interchange.snapshot_shape import Entry, Snapshot, checked
from workbench.run.interchange.stack_table import StackTable, plain_text

_LIMITS = (
    "only PyTorch's own blocks and segments: no memory of other libraries, none of the host",
    "thread and process are not in the file, and the device has no name but its number",
    "of blocks freed before the end only the requested bytes are known, so their taken bytes may be higher",
)
_MOST_SHORTAGES = 100
_DEEPEST = 64  # phases inside each other


def read_snapshot(path: Path) -> Imported:
    """The tables of the snapshot in `path`, and what is known about the file."""
    data = read_whole(path)
    with collector_paused():  # over the whole walk: the snapshot is millions of containers
        snapshot = checked(load_plain(data, path.name), len(data))
        things = Things(StackTable(len(data)))
        replays = _replay(snapshot, things)
        tables = _tables(snapshot, things, replays)
        facts = _facts(snapshot, replays)
    origin = {"file": plain_text(path.name), "file_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return Imported(tables, {"format": "PyTorch memory snapshot", **origin, **facts})


def _replay(snapshot: Snapshot, things: Things) -> list[Replay]:
    count = max([len(snapshot.traces), *(segment.device + 1 for segment in snapshot.segments)])
    replays = [Replay(place, things) for place in range(count)]
    for replay, trace in zip(replays, snapshot.traces, strict=False):
        replay.run(trace)
    for replay in replays if snapshot.segments else ():  # a file without segments does not know its end
        replay.end([segment for segment in snapshot.segments if segment.device == replay.place])
    return replays


def _first_time(snapshot: Snapshot) -> int:
    times = [min(trace.times) for trace in snapshot.traces if trace.times]
    return min([*times, *(entry["time_us"] for entry in snapshot.annotations)], default=0)


def _tables(snapshot: Snapshot, things: Things, replays: list[Replay]) -> dict[str, pa.Table]:
    first, unit = _first_time(snapshot), 1000 if snapshot.timed else 1
    before = [thing for replay in replays for thing in replay.before]
    before.sort(key=lambda thing: things.layer[thing] == "allocator")  # blocks after the segments they lie in
    times = np.array([first] * len(before) + [time for replay in replays for time in replay.times], dtype=np.int64)
    kinds = np.array([0] * len(before) + [kind for replay in replays for kind in replay.kinds], dtype=np.int32)
    rows = np.array(before + [thing for replay in replays for thing in replay.things], dtype=np.int64)
    order = np.argsort(times, kind="stable")
    time_ns = (np.maximum(times, first)[order] - first) * unit
    return {
        "events": _events(things, _places(snapshot, len(replays)), time_ns, kinds[order], rows[order]),
        "stacks": things.stacks.table(),
        "phases": _phases(snapshot.annotations, first),
        **{name: schema.TABLES[name].empty_table() for name in ("totals", "copies", "tokens", "requests", "steps")},
    }


def _events(
    things: Things,
    places: npt.NDArray[np.int64],  # [place, (device, process)]
    time_ns: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
) -> pa.Table:
    place = np.array(things.place, dtype=np.int64)[rows]
    texts = {name: pa.array(getattr(things, name), pa.string()) for name in ("layer", "tier", "owner", "tag")}
    columns = {name: column.dictionary_encode().take(pa.array(rows)) for name, column in texts.items()}
    stack = np.where(kinds == 0, np.array(things.stack, dtype=np.int32)[rows], 0)
    columns |= {
        "time_ns": pa.array(time_ns),
        "kind": pa.DictionaryArray.from_arrays(pa.array(kinds), list(schema.KINDS)),
        "bytes": pa.array(np.array(things.taken, dtype=np.int64)[rows]),
        "asked": pa.array(np.array(things.asked, dtype=np.int64)[rows]),
        "address": pa.array(np.array(things.address, dtype=np.uint64)[rows]),
        "device": pa.array(places[place, 0].astype(np.int16)),
        "stream": pa.array(np.array(things.stream, dtype=np.uint64)[rows]),
        "process": pa.array(places[place, 1].astype(np.int32)),
        "thread": pa.array(np.zeros(len(rows), dtype=np.int32)),
        "stack": pa.array(stack.astype(np.int32)),
    }
    return pa.table([columns[name] for name in schema.EVENTS.names], schema=schema.EVENTS)


def _places(snapshot: Snapshot, count: int) -> npt.NDArray[np.int64]:
    """Device and process of each trace: its number and 0, unless this project wrote the file and says more."""
    places = np.array([(number, 0) for number in range(count)], dtype=np.int64).reshape(count, 2)
    for number, place in enumerate(snapshot.places[:count]):
        device = place.get("device")
        if type(device) is int and -1 <= device < 1 << 15:
            places[number] = device, _process(place)
    return places


def _phases(annotations: list[Entry], first: int) -> pa.Table:
    """Phases from the START and END marks of `record_function` and of exported runs."""
    rows: list[Entry] = []
    running: dict[int, list[Entry]] = {}  # process -> rows whose END has not come
    for mark in sorted(annotations, key=lambda entry: int(entry["time_us"])):
        process = _process(mark)
        inside = running.setdefault(process, [])
        name, time_ns = plain_text(mark["name"]), (mark["time_us"] - first) * 1000
        if mark["stage"] == "START":
            depth = min(len(inside), _DEEPEST)
            rows.append({"name": name, "start_ns": time_ns, "end_ns": None, "process": process, "depth": depth})
            inside.append(rows[-1])
        elif not _close(inside, name, time_ns):  # it began before the first mark
            rows.append({"name": name, "start_ns": 0, "end_ns": time_ns, "process": process, "depth": 0})
    return pa.Table.from_pylist(sorted(rows, key=lambda row: int(row["start_ns"])), schema=schema.PHASES)


def _process(entry: Entry) -> int:
    """The process an exported run names; 0, not known, in PyTorch's own files."""
    process = entry.get("process")
    return process if type(process) is int and 0 <= process < 1 << 31 else 0


def _close(inside: list[Entry], name: str, time_ns: int) -> bool:
    """End the innermost of `inside` called `name`; False if none is."""
    for back in range(1, min(len(inside), _DEEPEST) + 1):
        if inside[-back]["name"] == name:
            inside.pop(-back)["end_ns"] = time_ns
            return True
    return False


def _facts(snapshot: Snapshot, replays: list[Replay]) -> dict[str, object]:
    ignored = sum((replay.ignored for replay in replays), start=Counter[str]())
    limits = list(_LIMITS)
    if not snapshot.timed:
        limits.append("the file has no times: events are numbered in order, one nanosecond apart")
    if not snapshot.segments:
        limits.append("the file has no segments: what was in use at the end is known from the trace only")
    return {
        "devices": [replay.place for replay in replays if replay.times or replay.before],
        "allocator_settings": snapshot.settings,
        "out_of_memory": _shortages(snapshot),
        "in_use_before": sum(len(replay.before) for replay in replays),
        "corrected": sum(replay.corrected for replay in replays),
        "ignored": {plain_text(action): count for action, count in ignored.most_common(20)},
        "limits": limits,
    }


def _shortages(snapshot: Snapshot) -> list[dict[str, int]]:
    """Each request that no memory was left for: bytes asked, and free bytes where the file says so."""
    first, unit = _first_time(snapshot), 1000 if snapshot.timed else 1
    found: list[dict[str, int]] = []
    for device, trace in enumerate(snapshot.traces):
        for action, _, asked, _, time, entry in trace.rows() if "oom" in trace.actions else ():
            if action == "oom":
                free = entry.get("device_free")
                known = {"free": free} if type(free) is int else {}
                found.append({"device": device, "time_ns": (time - first) * unit, "asked": asked, **known})
    return found[:_MOST_SHORTAGES]
