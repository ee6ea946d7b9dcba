"""PyTorch snapshots against the exact events that must come out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.interchange_samples import (
    BASE,
    FRAMES,
    PAGE,
    active,
    entry,
    freed,
    imported,
    in_use,
    random_snapshot,
    segment,
    snapshot,
)
from workbench.errors import WorkbenchError
from workbench.run import schema
from workbench.run.interchange import Imported, read_snapshot
from workbench.run.ledger import ledger_at


def rows(result: Imported, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in result.tables["events"].to_pylist()]


def test_every_entry_becomes_the_event_it_tells_of(tmp_path: Path) -> None:
    trace = [
        entry("segment_alloc", 0, BASE, PAGE, stream=7),
        entry("alloc", 10, BASE, 500, frames=FRAMES, stream=7, user_metadata="kv_cache"),
        entry("alloc", 20, BASE + 512, 1000, frames=FRAMES[:1]),
        *freed(30, BASE, 500),
        entry("oom", 40, 0, 1 << 40, device_free=123),
        entry("snapshot", 50, 0, 0),
        entry("strange", 60),
    ]
    whole = snapshot([trace], [segment(BASE, PAGE, [active(BASE + 512, 1024, 1000)])])
    result = imported(tmp_path, whole)
    assert rows(result, "time_ns", "kind", "layer", "owner", "tag", "bytes", "asked", "address", "stack", "stream") == [
        (0, "alloc", "driver", "libc10_cuda.so", None, PAGE, PAGE, BASE, 0, 7),
        (10_000, "alloc", "allocator", "torch", "kv_cache", 500, 500, BASE, 1, 7),
        (20_000, "alloc", "allocator", "torch", None, 1024, 1000, BASE + 512, 2, 0),
        (30_000, "free", "allocator", "torch", "kv_cache", 500, 500, BASE, 0, 7),
    ]
    assert result.tables["stacks"].to_pylist() == [
        {"stack": 1, "frames": ["/srv/model.py:12 forward", "??:0 at::native::empty(int, <b>) const"]},
        {"stack": 2, "frames": ["/srv/model.py:12 forward"]},
    ]
    shortage = {"device": 0, "time_ns": 40_000, "asked": 1 << 40, "free": 123}
    assert result.facts["out_of_memory"] == [shortage]
    assert result.facts["ignored"] == {"strange": 1}
    assert (result.facts["in_use_before"], result.facts["corrected"]) == (0, 0)
    assert {name: table.schema for name, table in result.tables.items()} == schema.TABLES


def test_what_was_there_before_the_trace_is_allocated_at_its_start(tmp_path: Path) -> None:
    trace = [*freed(5, BASE, 500), entry("segment_free", 9, BASE + 8 * PAGE, PAGE)]
    whole = snapshot([[], trace], [segment(BASE, PAGE, [active(BASE + 512, 1024, 700, frames=FRAMES)], device=1)])
    result = imported(tmp_path, whole)
    assert rows(result, "time_ns", "kind", "layer", "bytes", "asked", "address", "stack", "device") == [
        (0, "alloc", "driver", PAGE, PAGE, BASE + 8 * PAGE, 0, 1),
        (0, "alloc", "driver", PAGE, PAGE, BASE, 0, 1),
        (0, "alloc", "allocator", 500, 500, BASE, 0, 1),
        (0, "alloc", "allocator", 1024, 700, BASE + 512, 1, 1),
        (0, "free", "allocator", 500, 500, BASE, 0, 1),
        (4_000, "free", "driver", PAGE, PAGE, BASE + 8 * PAGE, 0, 1),
    ]
    assert result.facts["in_use_before"] == 4
    assert result.facts["devices"] == [1]


def test_a_requested_free_still_holds_its_bytes(tmp_path: Path) -> None:
    trace = [entry("segment_alloc", 0, BASE, PAGE), entry("alloc", 1, BASE, 512), entry("free_requested", 2, BASE, 512)]
    waiting = active(BASE, 512, 512, state="active_awaiting_free")
    result = imported(tmp_path, snapshot([trace], [segment(BASE, PAGE, [waiting])]))
    assert in_use(result.tables["events"], "allocator") == {(0, BASE): 512}


def test_mapped_memory_may_be_unmapped_in_other_pieces(tmp_path: Path) -> None:
    trace = [
        entry("segment_map", 0, BASE, 4 * PAGE),
        entry("segment_map", 1, BASE + 4 * PAGE, 2 * PAGE),
        entry("segment_unmap", 2, BASE + 3 * PAGE, 2 * PAGE),
    ]
    parts = [segment(BASE, 3 * PAGE, []), segment(BASE + 5 * PAGE, PAGE, [])]
    result = imported(tmp_path, snapshot([trace], parts))
    assert in_use(result.tables["events"], "driver") == {(0, BASE): 3 * PAGE, (0, BASE + 5 * PAGE): PAGE}
    assert rows(result, "time_ns", "kind", "bytes")[2:] == [
        (2_000, "free", 4 * PAGE),
        (2_000, "alloc", 3 * PAGE),
        (2_000, "free", 2 * PAGE),
        (2_000, "alloc", PAGE),
    ]
    assert result.facts["corrected"] == 0


def test_the_end_state_of_the_file_wins_over_its_trace(tmp_path: Path) -> None:
    trace = [entry("segment_alloc", 0, BASE, PAGE), entry("alloc", 1, BASE, 512), entry("alloc", 3, BASE, 256)]
    result = imported(tmp_path, snapshot([trace], [segment(BASE + PAGE, PAGE, [])]))
    assert in_use(result.tables["events"], "allocator") == {}
    assert in_use(result.tables["events"], "driver") == {(0, BASE + PAGE): PAGE}
    assert result.facts["corrected"] == 3


def test_annotations_become_phases(tmp_path: Path) -> None:
    def mark(name: str, stage: str, time_us: int) -> dict[str, Any]:
        return {"name": name, "stage": stage, "device": 0, "time_us": 1_700_000_000_000_000 + time_us}

    marks = [
        mark("early", "END", 4),
        mark("step", "START", 10),
        mark("forward", "START", 12),
        mark("forward", "END", 20),
    ]
    result = imported(tmp_path, snapshot([[entry("alloc", 2)]], [], external_annotations=marks))
    assert [tuple(row.values()) for row in result.tables["phases"].to_pylist()] == [
        ("early", 0, 2_000, 0, 0),
        ("step", 8_000, None, 0, 0),
        ("forward", 10_000, 18_000, 0, 1),
    ]


def test_old_files_lack_much(tmp_path: Path) -> None:
    """Segments alone (torch 1.13), blocks without addresses, requested bytes in a history, no times (2.1)."""
    history = [{"addr": BASE, "real_size": 300, "frames": []}]
    old = [{"address": BASE, "total_size": PAGE, "blocks": [{"size": 512, "state": "inactive"}]}]
    old[0]["blocks"].append({"size": 1024, "state": "active_allocated", "history": history})  # type: ignore[attr-defined]
    result = imported(tmp_path, old, protocol=2)
    assert rows(result, "kind", "layer", "bytes", "asked", "address")[1:] == [
        ("alloc", "allocator", 1024, 300, BASE + 512)
    ]

    trace = [{"action": "alloc", "addr": BASE, "size": 9, "stream": 0}, {"action": "oom", "size": 5, "stream": 0}]
    untimed = imported(tmp_path, {"segments": [], "device_traces": [trace]})
    assert rows(untimed, "time_ns", "bytes") == [(0, 9)]
    assert any("no times" in limit for limit in untimed.facts["limits"])  # type: ignore[attr-defined]


def test_text_is_kept_as_text(tmp_path: Path) -> None:
    frames = [{"filename": "<script>\ud800", "line": 1, "name": "n" * 10_000}]
    result = imported(tmp_path, snapshot([[entry("alloc", 0, frames=frames)]], []))
    frame = result.tables["stacks"]["frames"][0].as_py()[0]
    assert frame.startswith("<script>?:1 nnn")
    assert len(frame) < 5000


@given(seed=st.integers(0, 10_000), steps=st.integers(0, 80), lost=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_allocations_minus_frees_equal_the_end(tmp_path_factory: Any, seed: int, steps: int, lost: int) -> None:
    whole = random_snapshot(seed, steps, lost)
    result = imported(tmp_path_factory.mktemp("import"), whole)
    blocks = [(part["device"], block) for part in whole["segments"] for block in part["blocks"]]
    kept = {(device, block["address"]): block["size"] for device, block in blocks if block["state"] != "inactive"}
    events = result.tables["events"]
    assert in_use(events, "allocator") == kept
    assert in_use(events, "driver") == {(s["device"], s["address"]): s["total_size"] for s in whole["segments"]}
    assert result.facts["corrected"] == 0
    times = events["time_ns"].to_pylist()
    assert times == sorted(times)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1],
        "text",
        None,
        {"segments": 3},
        {"segments": [], "device_traces": {"0": []}},
        {"segments": [], "device_traces": [[3]]},
        {"segments": [], "device_traces": [[{"addr": 1}]]},
        snapshot([[entry("alloc", 0, size="512")]], []),  # type: ignore[arg-type]
        snapshot([[entry("alloc", 0, size=-1)]], []),
        snapshot([[entry("alloc", 0, size=True)]], []),
        snapshot([[entry("alloc", 0, addr=1 << 64)]], []),
        snapshot([[entry("alloc", 0, size=1 << 60)]], []),
        snapshot([[entry("alloc", 1 << 62)]], []),
        snapshot([[entry("alloc", 0, frames=5)]], []),
        snapshot([[entry("alloc", 0, frames=[5])]], []),
        snapshot([[entry("alloc", 0, frames=[{"filename": 1, "line": 1, "name": "f"}])]], []),
        snapshot([], [segment(BASE, PAGE, [], device=1 << 20)]),
        snapshot([], [segment(BASE, PAGE, []) | {"blocks": 7}]),
        snapshot([], [], external_annotations=[{"name": "x", "stage": "START", "time_us": "now"}])
        | {"device_traces": [[entry("oom", 0)]]},
        snapshot([[]] * 5000, []),
    ],
)
def test_wrong_shapes_are_one_line(tmp_path: Path, content: object) -> None:
    with pytest.raises(WorkbenchError) as caught:
        imported(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_small_file_cannot_describe_a_huge_run(tmp_path: Path) -> None:
    trace = [entry("alloc", 0)] * 1000
    with pytest.raises(WorkbenchError, match="more often than its size allows"):
        imported(tmp_path, snapshot([trace] * 1000, []))
    name = "n" * 4000
    frames = [{"filename": name, "line": line, "name": name} for line in range(20_000)]
    with pytest.raises(WorkbenchError, match="repeats its stacks"):
        imported(tmp_path, snapshot([[entry("alloc", 0, frames=frames)]], []))


@pytest.mark.parametrize("name", ["", "no such file"])
def test_what_is_not_a_file_is_one_line(tmp_path: Path, name: str) -> None:
    from workbench.run.interchange import read_snapshot

    with pytest.raises(WorkbenchError, match="is not a file"):
        read_snapshot(tmp_path / name)


@pytest.mark.parametrize(("name", "reserved"), [("python", 75497472), ("all", 75497472), ("expandable", 85983232)])
def test_snapshots_of_a_real_gpu_end_with_what_torch_said(name: str, reserved: int) -> None:
    path = Path(__file__).parents[1] / "data" / f"torch-2.11-h200-{name}.pickle"
    of_torch = read_snapshot(path)
    events = of_torch.tables["events"]
    end = max(events["time_ns"].to_pylist())
    ledger = ledger_at(events, schema.TOTALS.empty_table(), "gpu", end)
    assert ledger.explained == reserved
    assert sum(entry.bytes for entry in ledger.entries if entry.tag != "unused") == 50331648
    assert of_torch.facts["corrected"] == 0
    shortages: Any = of_torch.facts["out_of_memory"]
    assert [shortage["asked"] for shortage in shortages] == [1 << 50]
    frames = [frame for stack in of_torch.tables["stacks"]["frames"].to_pylist() for frame in stack]
    assert any(frame.startswith("snapshot.py:") and frame.endswith(" work") for frame in frames)
