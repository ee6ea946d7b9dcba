"""Exports against what the programs that read them require."""

from __future__ import annotations

import pickle
import pickletools
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.unit.builders import block, event, gpu, written
from tests.unit.interchange_samples import (
    BASE,
    FRAMES,
    PAGE,
    active,
    entry,
    freed,
    imported,
    random_snapshot,
    segment,
    snapshot,
)
from workbench.errors import WorkbenchError
from workbench.run import schema
from workbench.run.interchange import export_csv, export_parquet, export_perfetto, export_snapshot, read_snapshot
from workbench.run.manifest import Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run, write_run

# What MemoryViz.js unpickles, with tuples of any length and LONG1 of up to eight bytes.
VIEWER_READS = """
    APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPUT BINUNICODE DICT EMPTY_DICT EMPTY_LIST EMPTY_TUPLE FRAME
    LIST LONG1 LONG_BINGET LONG_BINPUT MARK MEMOIZE NEWFALSE NEWTRUE NONE PROTO SETITEM SETITEMS SHORT_BINUNICODE STOP
    TUPLE TUPLE1 TUPLE2 TUPLE3
"""
KEPT = [name for name in schema.EVENTS.names if name not in ("time_ns", "stack", "thread")]

Exporter = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two processes, three tiers, a freed and a kept block, phases and copies."""
    return written(
        tmp_path / "store",
        events=[
            gpu(0, "alloc", 2 * PAGE, BASE, process=7, stack=2),
            gpu(500, "alloc", PAGE, BASE, process=8, owner="libnccl.so.2"),
            block(1_000, "alloc", 1024, BASE, asked=1000, process=7, tag="weights", stack=1),
            block(2_000, "alloc", 512, BASE + 1024, process=7, stream=3),
            event(2_500, "alloc", 1 << 20, 0x5000, process=7, tier="pinned", layer="driver", owner="libtorch_cuda.so"),
            block(3_000, "free", 512, BASE + 1024, process=7, stream=3),
            block(4_000, "alloc", 64, 0x9000, process=7, tier="pageable", device=-1),
            event(5_000, "free", 1 << 20, 0x5000, process=7, tier="pinned", layer="driver", owner="libtorch_cuda.so"),
        ],
        stacks=[
            {"stack": 1, "frames": ["/srv/a b.py:12 load", "??:0 f(x::y, 3)"]},
            {"stack": 2, "frames": ["C:/x.py:3 f"]},
        ],
        phases=[
            {"name": "load_weights", "start_ns": 0, "end_ns": 3_000, "process": 7, "depth": 0},
            {"name": "kv_cache", "start_ns": 1_000, "end_ns": None, "process": 7, "depth": 1},
        ],
        copies=[
            {"submitted_ns": None, "start_ns": 10, "end_ns": 40, "bytes": 99, "direction": "host to device"}
            | {"device": 0, "stream": 3, "process": 7}
        ],
    )


def as_run(folder: Path, content: object) -> Run:
    result = imported(folder, content)
    manifest = Manifest.new("made", VERSION)
    return write_run(folder / manifest.id, manifest, result.tables)


def compared(run: Run | Any) -> list[tuple[Any, ...]]:
    """The events as text: times in whole microseconds, stacks as frames; in order for each device and process."""
    stacks = {row["stack"]: row["frames"] for row in run.table("stacks").to_pylist()}
    rows = [
        (
            row["device"] + 1,
            row["process"],
            row["time_ns"] // 1000,
            stacks.get(row["stack"]),
            *(row[name] for name in KEPT),
        )
        for row in run.table("events").to_pylist()
    ]
    return sorted(rows, key=lambda row: row[:3])


def test_snapshot_comes_back_as_it_was(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.pickle"
    export_snapshot(run, path)
    back = read_snapshot(path)
    again = write_run(tmp_path / "again", Manifest.new("again", VERSION), back.tables)
    assert compared(again) == compared(run)
    assert again.table("phases").to_pylist() == run.table("phases").to_pylist()
    assert (back.facts["in_use_before"], back.facts["corrected"]) == (0, 0)


def test_a_frame_without_a_place_keeps_its_text(tmp_path: Path) -> None:
    run = written(tmp_path, events=[gpu(0, "alloc", 1, BASE, stack=1)], stacks=[{"stack": 1, "frames": ["somewhere"]}])
    (step,) = exported(run, tmp_path / "out")["device_traces"][0]
    assert step["frames"] == [{"filename": "", "line": 0, "name": "somewhere"}]


@pytest.mark.parametrize("seed", range(8))
def test_a_torch_snapshot_survives_export_and_import(tmp_path: Path, seed: int) -> None:
    first = as_run(tmp_path, random_snapshot(seed, 120, lost=20))
    export_snapshot(first, tmp_path / "out.pickle")
    second = as_run(tmp_path, (tmp_path / "out.pickle").read_bytes())
    assert compared(second) == compared(first)


def exported(run: Run, path: Path) -> dict[str, Any]:
    export_snapshot(run, path)
    whole: dict[str, Any] = pickle.loads(path.read_bytes())
    return whole


def test_torch_reads_the_snapshot(tmp_path: Path) -> None:
    viz = pytest.importorskip("torch.cuda._memory_viz")
    trace = [entry("alloc", 1, BASE, 700, frames=FRAMES), entry("alloc", 2, BASE + 1024, 512), *freed(3, BASE + 1024)]
    run = as_run(tmp_path, snapshot([trace], [segment(BASE, 40 << 20, [active(BASE, 1024, 700)])]))
    whole = exported(run, tmp_path / "out.pickle")
    assert "total_reserved: 40.0MiB" in viz.segsum(whole)
    assert "total_allocated: 700.0B" in viz.segsum(whole)
    text = viz.trace(whole)
    assert "cudaMalloc" in text
    assert "free completed for" in text
    assert "Device 0" in text
    flames = viz.memory(whole, format_flamegraph=lambda lines: lines)
    assert "model.py:12:forward 700" in flames
    for page in (viz.trace_plot(whole), viz.trace_plot(whole, plot_segments=True), viz.segment_plot(whole)):
        assert "add_local_files" in page
    assert viz.filter_alloc_free_pairs(whole)["device_traces"][0][-1]["action"] == "alloc"


def test_the_browser_can_unpickle_the_snapshot(run: Run, tmp_path: Path) -> None:
    export_snapshot(run, tmp_path / "out.pickle")
    used = list(pickletools.genops((tmp_path / "out.pickle").read_bytes()))
    assert {operation.name for operation, _, _ in used} <= set(VIEWER_READS.split())
    assert all(abs(value or 0) < 1 << 53 for operation, value, _ in used if operation.name == "LONG1")


@pytest.mark.parametrize("seed", range(4))
def test_the_browser_finds_a_segment_for_every_block(tmp_path: Path, run: Run, seed: int) -> None:
    """Its view of segments walks the trace backwards from the end, and fails on a block outside all segments."""
    real = as_run(tmp_path, random_snapshot(seed, 120, lost=20))
    for whole in (exported(run, tmp_path / "a"), exported(real, tmp_path / "b")):
        for device, trace in enumerate(whole["device_traces"]):
            walk_back(trace, [part for part in whole["segments"] if part["device"] == device])


def walk_back(trace: list[dict[str, Any]], segments: list[dict[str, Any]]) -> None:
    held = {(part["address"], part["total_size"]) for part in segments}
    blocks = {each["address"] for part in segments for each in part["blocks"] if each["state"] != "inactive"}
    for part in segments:
        assert sum(each["size"] for each in part["blocks"]) == part["total_size"]
    for step in reversed(trace):
        match step["action"]:
            case "segment_alloc":
                held.remove((step["addr"], step["size"]))
            case "segment_free":
                held.add((step["addr"], step["size"]))
            case "alloc":
                blocks.remove(step["addr"])
            case "free_completed":
                blocks.add(step["addr"])
        assert all(any(start <= at < start + size for start, size in held) for at in blocks)


def test_a_block_across_mapped_segments_makes_them_one(tmp_path: Path) -> None:
    trace = [
        entry("segment_map", 0, BASE, PAGE),
        entry("segment_map", 1, BASE + PAGE, PAGE),
        entry("alloc", 2, BASE, 2 * PAGE),
    ]
    run = as_run(tmp_path, snapshot([trace], [segment(BASE, 2 * PAGE, [active(BASE, 2 * PAGE, 2 * PAGE)])]))
    whole = exported(run, tmp_path / "out")
    assert [step["action"] for step in whole["device_traces"][0]] == ["segment_map", "segment_map", "alloc"]
    assert [(part["total_size"], part["is_expandable"]) for part in whole["segments"]] == [(2 * PAGE, True)]


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: number, and a number or bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                assert shift <= 70
                return value & (1 << 64) - 1

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            assert key & 7 == 2
            size = varint()
            assert at + size <= len(data)
            at += size
            yield key >> 3, data[at - size : at]


def test_perfetto_holds_counters_phases_and_copies(run: Run, tmp_path: Path) -> None:
    """Field numbers from Perfetto's perfetto_trace.proto: a second statement of them, beside the exporter's."""
    export_perfetto(run, tmp_path / "out.pftrace")
    packets = [dict(fields(packet)) for _, packet in fields((tmp_path / "out.pftrace").read_bytes())]
    assert packets[0] == {10: 1, 13: 1}  # one sequence, which starts afresh
    assert all(packet[10] == 1 for packet in packets)
    tracks = {track[1]: track for packet in packets if 60 in packet for track in [dict(fields(packet[60]))]}
    names = {uuid: track[2].decode() for uuid, track in tracks.items()}
    processes = {uuid: dict(fields(track[3]))[1] for uuid, track in tracks.items() if 3 in track}
    assert sorted(processes.values()) == [7, 8]
    got: dict[tuple[int, str], list[tuple[Any, ...]]] = {}
    for packet in packets:
        if 11 in packet:
            what = dict(fields(packet[11]))
            place = processes[tracks[what[11]][5]], names[what[11]]
            size = dict(fields(what[4]))[4] if 4 in what else None
            label = what[23].decode() if 23 in what else None
            got.setdefault(place, []).append(
                (packet[8], what[9], what[30]) if 30 in what else (packet[8], what[9], label, size)
            )
    assert got == {
        (7, "gpu 0: libc10_cuda.so"): [(0, 4, 2 * PAGE)],
        (8, "gpu 0: libnccl.so.2"): [(500, 4, PAGE)],
        (7, "gpu 0: torch (blocks)"): [(1_000, 4, 1024), (2_000, 4, 1536), (3_000, 4, 1024)],
        (7, "pageable: torch (blocks)"): [(4_000, 4, 64)],
        (7, "pinned: libtorch_cuda.so"): [(2_500, 4, 1 << 20), (5_000, 4, 0)],
        (7, "phases"): [(0, 1, "load_weights", None), (3_000, 2, None, None)],
        (7, "phases 1"): [(1_000, 1, "kv_cache", None)],
        (7, "copies, device 0, stream 0x3"): [(10, 1, "host to device", 99), (40, 2, None, None)],
    }
    units = {names[uuid]: dict(fields(track[8])) for uuid, track in tracks.items() if 8 in track}
    assert set(map(str, units.values())) == {"{3: 3}"}


def test_a_counter_may_go_below_zero(tmp_path: Path) -> None:
    run = written(tmp_path, events=[gpu(5, "free", 1 << 40, BASE)])
    export_perfetto(run, tmp_path / "out")
    last = [dict(fields(packet)) for _, packet in fields((tmp_path / "out").read_bytes())][-1]
    assert dict(fields(last[11]))[30] == (1 << 64) - (1 << 40)


def test_csv_and_parquet_hold_the_tables(run: Run, tmp_path: Path) -> None:
    export_csv(run, tmp_path / "events.csv")
    export_csv(run, tmp_path / "csv")
    export_parquet(run, tmp_path / "events.parquet")
    export_parquet(run, tmp_path / "parquet")
    assert (tmp_path / "events.csv").read_bytes() == (tmp_path / "csv" / "events.csv").read_bytes()
    frame = pd.read_csv(tmp_path / "events.csv")
    assert list(frame.columns) == schema.EVENTS.names
    assert frame["bytes"].sum() == run.events()["bytes"].sum()
    assert list(frame["owner"]) == list(run.events()["owner"])
    assert pd.read_csv(tmp_path / "csv" / "stacks.csv")["frames"][0] == "/srv/a b.py:12 load\n??:0 f(x::y, 3)"
    assert pq.read_table(tmp_path / "events.parquet").cast(schema.EVENTS).equals(run.table("events"))
    for name, columns in schema.TABLES.items():
        assert pq.read_table(tmp_path / "parquet" / f"{name}.parquet").cast(columns).equals(run.table(name))


EXPORTS = pytest.mark.parametrize("export", [export_snapshot, export_perfetto, export_csv, export_parquet])


@EXPORTS
def test_a_run_without_events_is_exported(tmp_path: Path, export: Exporter) -> None:
    export(written(tmp_path / "store"), tmp_path / "out")
    assert (tmp_path / "out").exists()


@EXPORTS
def test_what_is_there_is_kept_unless_told_otherwise(run: Run, tmp_path: Path, export: Exporter) -> None:
    export(run, tmp_path / "out")
    with pytest.raises(WorkbenchError, match="exists"):
        export(run, tmp_path / "out")
    export(run, tmp_path / "out", overwrite=True)


@EXPORTS
@pytest.mark.parametrize("target", ["missing/out", "file/out"])
def test_a_folder_that_cannot_be_written_is_one_line(run: Run, tmp_path: Path, export: Exporter, target: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkbenchError, match="cannot write") as caught:
        export(run, tmp_path / target)
    assert "\n" not in str(caught.value)


@EXPORTS
def test_a_disk_that_fills_up_leaves_nothing_behind(run: Run, tmp_path: Path, export: Exporter) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(WorkbenchError, match="cannot write"):
            export(run, folder / "export")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []
