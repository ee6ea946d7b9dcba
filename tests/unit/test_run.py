from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.builders import MIB, event, gpu, total, written
from workbench.errors import RunError
from workbench.run import schema
from workbench.run.manifest import FILE, INCOMPLETE, Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run
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
    unsealed = _unsealed(tmp_path / "runs", 3)
    written(tmp_path / "runs", events=[gpu(1, "alloc", 7 * MIB, 1)])
    store = Store(tmp_path / "runs")
    answer = store.sql("select run, count(*) n from events group by run order by n")
    assert answer["n"].tolist() == [1, 2, 3]
    assert answer["run"].tolist()[2] == unsealed.name
    assert store.sql("select status from runs where run = '" + unsealed.name + "'")["status"].tolist() == [INCOMPLETE]
    with pytest.raises(RunError, match="the query failed"):
        store.sql("select nothing from nowhere")


def test_an_empty_store_answers_too(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").sql("select count(*) n from events")["n"].tolist() == [0]


def test_a_run_is_found_by_parts_of_its_id(tmp_path: Path, run: Run) -> None:
    store = Store(tmp_path / "runs")
    for name in (run.id, run.id[-4:], run.id[:16], "latest", str(run.folder)):
        assert store.open(name).id == run.id
    with pytest.raises(RunError, match="there is no run 'nonesuch'"):
        store.open("nonesuch")


def _unsealed(folder: Path, rows: int, cut: int = 0) -> Path:
    """A run whose scribe is gone: streams that were never sealed, cut off inside the last batch."""
    manifest = Manifest.new("cut", VERSION)
    path = Store(folder).create(manifest)
    names = Names(path)
    names.id("")
    ids = {word: names.id(word) for word in ("alloc", "host", "pageable", "libdemo.so")}
    stream = Stream(path / "events.arrow", coded(schema.EVENTS))
    for number in range(rows):
        row = event(number, "alloc", 8, number + 1) | {"kind": ids["alloc"], "layer": ids["host"]}
        row |= {"tier": ids["pageable"], "owner": ids["libdemo.so"]}
        names.flush()
        stream.write_rows([row])
    if cut:
        whole = (path / "events.arrow").read_bytes()
        (path / "events.arrow").write_bytes(whole[:-cut])
    return path


@pytest.mark.parametrize(("cut", "left"), [(0, 4), (1, 3), (100, 3), (600, 3)])
def test_a_killed_run_opens_incomplete_with_all_whole_batches(tmp_path: Path, cut: int, left: int) -> None:
    run = Run.open(_unsealed(tmp_path, 4, cut))
    assert run.manifest.status == INCOMPLETE
    assert len(run.events()) == left
    assert run.timeline("pageable").end == 8 * left


def test_sealing_sorts_by_time_and_leaves_only_parquet(tmp_path: Path) -> None:
    path = _unsealed(tmp_path, 2)
    with Stream(path / "phases.arrow", coded(schema.PHASES)) as phases:
        phases.write_rows([PHASE | {"start_ns": 9}, PHASE])
    assert seal(path)["events"] == 2
    assert Run.open(path).phases()["start_ns"].tolist() == [5, 9]
    assert not list(path.glob("*.arrow"))
    assert not list(path.glob("*.tmp"))


def test_names_and_batches_are_seen_by_another_reader_at_once(tmp_path: Path) -> None:
    path = _unsealed(tmp_path, 2)
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
