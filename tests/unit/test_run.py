from __future__ import annotations

import json
import os
import random
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.builders import MIB, event, gpu, total, unsealed, written
from workbench.errors import RunError
from workbench.run import schema
from workbench.run.manifest import FILE, INCOMPLETE, LARGEST, Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run, write_run
from workbench.run.sealing import read_coded, seal
from workbench.run.store import Store
from workbench.run.streams import Names, Stream, coded, read_names

PHASE = {"name": "decode", "start_ns": 5, "end_ns": 15, "process": 1, "depth": 0}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return written(
        tmp_path / "runs",
        events=[event(10, "alloc", 5, 0x7F0000000001, tag="weights", stack=1), event(20, "free", 5, 0x7F0000000001)],
        stacks=[{"stack": 1, "frames": ["a.py:1 f", "b.py:2 <module>"]}],
        phases=[PHASE],
        totals=[total(5, "pageable", "private", 50), total(15, "pageable", "private", 80)],
    )


def test_a_run_is_read_back_as_it_was_written(run: Run) -> None:
    events = run.events()
    assert isinstance(events, pd.DataFrame)
    assert list(events.columns) == schema.EVENTS.names
    assert events["owner"].tolist() == ["libdemo.so", "libdemo.so"]
    assert events["address"].tolist() == [0x7F0000000001] * 2
    assert events["tag"].tolist()[0] == "weights"
    assert events["tag"].isna().tolist() == [False, True]
    assert run.stack(1) == ["a.py:1 f", "b.py:2 <module>"]
    assert run.fullest_edge("pageable") == 15
    assert run.phases()["name"].tolist() == ["decode"]


def test_any_reader_of_parquet_reads_it_alone(run: Run) -> None:
    path = str(run.folder / "events.parquet")
    assert pd.read_parquet(path)["owner"].tolist() == ["libdemo.so"] * 2
    with duckdb.connect() as connection:
        answer = connection.execute(f"select kind, bytes from '{path}' order by time_ns").fetchall()
    assert answer == [("alloc", 5), ("free", 5)]
    assert pq.read_table(path).num_rows == 2


def test_sql_goes_across_runs_sealed_or_not(tmp_path: Path, run: Run) -> None:
    open_run = unsealed(tmp_path / "runs", 3)
    written(tmp_path / "runs", events=[gpu(1, "alloc", 7 * MIB, 1)])
    store = Store(tmp_path / "runs")
    answer = store.sql("select run, count(*) n from events group by run order by n")
    assert answer["n"].tolist() == [1, 2, 3]
    assert answer["run"].tolist()[2] == open_run.name
    assert store.sql("select status from runs where run = '" + open_run.name + "'")["status"].tolist() == [INCOMPLETE]
    with pytest.raises(RunError, match="the query failed"):
        store.sql("select nothing from nowhere")
    with pytest.raises(RunError, match="has no answer"):
        store.sql("")


def test_runs_of_before_workloads_were_kept_tell_of_none() -> None:
    runs = Store.recorded().runs()
    of_before = [run for run in runs if "workloads" not in json.loads((run.folder / "manifest.json").read_text())]
    assert {"vllm-gloo", "process-group-reference-gloo"} <= {run.manifest.name for run in of_before}
    assert all(run.workloads == [] for run in of_before)


def test_an_empty_store_answers_too(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").sql("select count(*) n from events")["n"].tolist() == [0]


def test_a_run_is_found_by_parts_of_its_id(tmp_path: Path, run: Run) -> None:
    store = Store(tmp_path / "runs")
    for name in (run.id, run.id[-4:], run.id[:16], "latest", str(run.folder)):
        assert store.open(name).id == run.id
    with pytest.raises(RunError, match="there is no run 'nonesuch'"):
        store.open("nonesuch")


@pytest.mark.parametrize(("cut", "left"), [(0, 4), (1, 3), (100, 3), (600, 3)])
def test_a_killed_run_opens_incomplete_with_all_whole_batches(tmp_path: Path, cut: int, left: int) -> None:
    run = Run.open(unsealed(tmp_path, 4, cut))
    assert run.manifest.status == INCOMPLETE
    assert len(run.events()) == left
    assert run.timeline("pageable").end == 8 * left


def test_sealing_sorts_by_time_and_leaves_only_parquet(tmp_path: Path) -> None:
    path = unsealed(tmp_path, 2)
    with Stream(path / "phases.arrow", coded(schema.PHASES)) as phases:
        phases.write_rows([PHASE | {"start_ns": 9}, PHASE])
    assert seal(path)["events"] == 2
    assert Run.open(path).phases()["start_ns"].tolist() == [5, 9]
    assert not list(path.glob("*.arrow"))
    assert not list(path.glob("*.tmp"))


COPY: dict[str, object] = {
    "time_ns": 3,
    "start_ns": 5,
    "end_ns": 9,
    "bytes": 4096,
    "device": 0,
    "stream": 7,
    "process": 1,
}


CAME = {2: ["call_ns", "handed_ns"], 3: ["handed_ns"]}  # into `copies`, since a version
BROUGHT_UP: dict[int, dict[str, object]] = {2: {"call_ns": None, "handed_ns": None}, 3: {"call_ns": 2, "handed_ns": 3}}


@pytest.mark.parametrize("version", CAME)
@pytest.mark.parametrize("sealed", [True, False])
def test_copies_of_an_older_run_are_brought_up(tmp_path: Path, sealed: bool, version: int) -> None:
    manifest = Manifest.new("old", version)
    path = Store(tmp_path).create(manifest)
    older = pa.schema(field for field in schema.COPIES if field.name not in CAME[version])
    told = COPY | {name: value for name, value in BROUGHT_UP[version].items() if name not in CAME[version]}
    names = Names(path)
    direction = names.id("host to device")
    names.close()
    with Stream(path / "copies.arrow", coded(older)) as copies:
        copies.write_rows([told | {"direction": direction}] * 2)
    if sealed:
        rows = [told | {"direction": "host to device"}] * 2
        pq.write_table(pa.Table.from_pylist(rows, older), path / "copies.parquet")
    found = Run.open(path).table("copies")
    assert found.schema.equals(schema.COPIES)
    assert found.to_pylist() == [COPY | BROUGHT_UP[version] | {"direction": "host to device"}] * 2
    query = "select handed_ns, sum(bytes) from copies group by handed_ns"
    handed = BROUGHT_UP[version]["handed_ns"] or -1
    assert [tuple(row) for row in Store(tmp_path).sql(query).fillna(-1).to_numpy()] == [(handed, 8192)]


def test_names_and_batches_are_seen_by_another_reader_at_once(tmp_path: Path) -> None:
    path = unsealed(tmp_path, 2)
    assert read_coded(path, "events").num_rows == 2
    assert "libdemo.so" in read_names(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can not be read"),
        (b"[]", "holds no object"),
        (b"{}", "no schema version"),
        (b'{"schema": 1}', "not a manifest"),
        (b'{"schema": "1"}', "no schema version"),
        (b'{"schema": true}', "no schema version"),
        (b'{"schema": 999}', "is of schema 999"),
        (b"[" * 100_000, "can not be read"),
        (b"\xff\xfe", "can not be read"),
    ],
)
def test_a_foreign_or_newer_manifest_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        Run.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_run_and_what_is_no_table_is_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(RunError, match="is not a run"):
        Run.open(tmp_path)
    with pytest.raises(RunError, match="no table 'evnts'"):
        run.table("evnts")
    with pytest.raises(RunError, match="no tier 'cpu'"):
        run.timeline("cpu")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other columns"])
def test_a_damaged_table_is_refused_in_one_line(run: Run, damage: str) -> None:
    path = run.folder / "events.parquet"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "foreign":
        path.write_bytes(b"PAR1 nothing of the kind PAR1")
    else:
        pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(RunError) as caught:
        run.table("events")
    assert "\n" not in str(caught.value)


def test_a_newer_run_in_a_store_does_not_hide_the_others(tmp_path: Path, run: Run) -> None:
    newer = tmp_path / "runs" / "20990101-000000-newer-0000"
    newer.mkdir()
    (newer / FILE).write_text(json.dumps({"schema": 999}))
    store = Store(tmp_path / "runs")
    assert [one.id for one in store.runs()] == [run.id]
    with pytest.raises(RunError, match="upgrade memory-workbench"):
        store.open(newer.name)


def test_a_store_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="no run can be written"):
        Store(tmp_path / "file").create(Manifest.new("x", VERSION))


MANIFEST = {"id": "x", "name": "x", "schema": VERSION, "status": "complete", "started": "", "started_ns": 1}


@pytest.mark.parametrize(
    "field",
    [
        {"id": "../../evil"},
        {"id": ".hidden"},
        {"id": "a\n"},
        {"id": ""},
        {"id": "/etc/x"},
        {"id": 1},
        {"status": "asleep"},
        {"started_ns": True},
        {"started_ns": 1 << 63},
        {"duration_s": "NaN"},
        {"duration_s": float("inf")},
        {"command": "ls"},
        {"sources": [1]},
        {"sources": {"host": [1]}},
        {"gpus": 3},
        {"gpus": [{}]},
        {"counts": []},
        {"counts": {"events": "many"}},
        {"notes": 1},
        {"workloads": None},
        {"workloads": [{}]},
        {"workloads": [{"prompts": [1]}]},
        {"versions": {"torch": None}},
        {"error": {"why": "x"}},
        {"error": {"what": "x", "alive": {"gpu": 5}}},
        {"shortages": [{"what": "x"}]},
    ],
)
def test_each_field_of_a_manifest_is_checked(tmp_path: Path, field: dict[str, object]) -> None:
    (tmp_path / FILE).write_text(json.dumps(MANIFEST))
    assert Run.open(tmp_path).id == "x"
    (tmp_path / FILE).write_text(json.dumps(MANIFEST | field))
    with pytest.raises(RunError, match=f"its {next(iter(field))} ") as caught:
        Run.open(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ünï/cöde", "../../x", ".", "", "a b\nc"])
def test_any_name_gives_an_id_that_is_read_back(tmp_path: Path, name: str) -> None:
    path = Store(tmp_path).create(Manifest.new(name, VERSION))
    assert Run.open(path).manifest.name == name
    assert path.parent == tmp_path


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "large"])
def test_a_manifest_that_is_no_file_or_too_large_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / FILE
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(LARGEST + 1)
    with pytest.raises(RunError, match="is not a manifest"):
        Run.open(tmp_path)


@pytest.mark.parametrize("damage", ["bytes", "text", "fifo", "missing"])
def test_a_sealed_table_of_other_content_is_refused_in_one_line(run: Run, damage: str) -> None:
    path = run.folder / "events.parquet"
    table = run.table("events")
    path.unlink()
    if damage == "fifo":
        os.mkfifo(path)
    elif damage != "missing":
        other = pa.array([b"\xff", b"x"], pa.binary()) if damage == "bytes" else pa.array(["many", "x"])
        column = "owner" if damage == "bytes" else "bytes"
        pq.write_table(table.set_column(table.column_names.index(column), column, other), path)
    with pytest.raises(RunError, match="events table") as caught:
        Run.open(run.folder).table("events")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["random", "foreign", "folder"])
@pytest.mark.parametrize("name", ["events", "names"])
def test_a_foreign_stream_is_refused_in_one_line(tmp_path: Path, name: str, content: str) -> None:
    folder = unsealed(tmp_path, 2)
    path = folder / f"{name}.arrow"
    path.unlink()
    if content == "random":
        path.write_bytes(random.Random(1).randbytes(5000))
    elif content == "folder":
        path.mkdir()
    else:
        with Stream(path, pa.schema([("text", pa.binary())])) as stream:
            stream.write_rows([{"text": b"\xff"}])
    with pytest.raises(RunError, match="events table") as caught:
        Run.open(folder).table("events")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [5, -1, 1 << 30])
def test_a_row_that_refers_to_no_name_is_refused(tmp_path: Path, number: int) -> None:
    folder = unsealed(tmp_path, 2)
    with Stream(folder / "phases.arrow", coded(schema.PHASES)):
        pass
    row = event(1, "alloc", 8, 1) | {"kind": 1, "layer": 2, "tier": 3, "owner": number}
    (folder / "events.arrow").unlink()
    with Stream(folder / "events.arrow", coded(schema.EVENTS)) as stream:
        stream.write_rows([row])
    with pytest.raises(RunError, match="a name is missing"):
        Run.open(folder).table("events")
    assert Run.open(folder).table("phases").num_rows == 0


@pytest.mark.parametrize("damage", ["foreign", "pages", "missing"])
def test_sql_fails_only_where_it_touches_a_damaged_table(tmp_path: Path, run: Run, damage: str) -> None:
    rows = [event(number, "alloc", number * 7919 % 10007, number) for number in range(5000)]
    damaged = written(tmp_path / "runs", events=rows)
    path = damaged.folder / "events.parquet"
    whole = path.read_bytes()
    contents = {
        "foreign": b"PAR1 nothing PAR1",
        "pages": whole[:4] + b"\x55" * (len(whole) // 2) + whole[4 + len(whole) // 2 :],
    }
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(contents[damage])
    store = Store(tmp_path / "runs")
    assert store.sql("select count(*) n from phases")["n"].tolist() == [1]
    assert store.sql("select count(*) n from runs")["n"].tolist() == [2]
    with pytest.raises(RunError, match=damaged.id) as caught:
        store.sql("select * from Events")
    assert "\n" not in str(caught.value)


def test_a_run_that_can_not_be_written_leaves_nothing_and_spoils_nothing(tmp_path: Path, run: Run) -> None:
    with pytest.raises(RunError, match="no run can be written"):
        write_run(run.folder, Manifest.new("x", VERSION), {})
    assert len(run.events()) == 2
    with pytest.raises(TypeError):
        write_run(tmp_path / "half", Manifest.new("x", VERSION, notes={"what": object()}), {})
    assert not (tmp_path / "half").exists()


def test_a_lock_that_is_no_file_does_not_stop_a_reader(tmp_path: Path) -> None:
    folder = unsealed(tmp_path, 1)
    os.mkfifo(folder / "lock")
    assert Run.open(folder).manifest.status == INCOMPLETE
