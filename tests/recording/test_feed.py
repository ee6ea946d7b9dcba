"""A run is followed while it is written."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import workbench
from workbench.launch.recording import Scribing, create, start_scribe
from workbench.recorder.wire import Line
from workbench.run.run import Run
from workbench.run.store import Store

SEEN, UNSEEN = 16 << 20, 70 << 10  # bytes, in a program of some hundreds of megabytes


def begun(store: Store, text: str, table: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A program that is being recorded, and the folder of its run, in which this table has begun."""
    command = [sys.executable, "-m", "workbench", "record", "--out", str(store.folder), "--"]
    parent = subprocess.Popen([*command, sys.executable, "-c", text], stdout=subprocess.DEVNULL)
    while not list(store.folder.glob(f"*/{table}.arrow")):
        time.sleep(0.01)
    [folder] = store.folder.iterdir()
    return parent, folder


def test_a_feed_knows_a_phase_before_it_ends(store: Store) -> None:
    text = "import time, workbench\nfor s in (1, 0.01):\n    with workbench.phase('long'):\n        time.sleep(s)\n"
    parent, folder = begun(store, text, "phases")
    feed, told = workbench.Feed(folder), list[dict[str, Any]]()
    while feed.is_live:
        told += feed.new("phases").to_pylist()
        time.sleep(0.05)
    assert parent.wait(30) == 0
    first = [("program", True), ("long", True), ("long", False)]
    assert [(row["name"], row["end_ns"] is None) for row in told[:3]] == first
    phases = Run.open(folder).table("phases").to_pylist()
    assert [row["name"] for row in phases] == ["program", "long", "long"]
    assert all(row["end_ns"] > row["start_ns"] for row in phases)


def test_what_can_be_seen_is_told_at_once_and_the_rest_soon(store: Store) -> None:
    """One block in eight is large enough to be seen."""
    text = (
        "import time, numpy\nkept, before = [], numpy.ones(256 << 20, numpy.uint8)\ntime.sleep(1)\n"
        "for turn in range(32):\n"
        f"    kept.append(numpy.ones({SEEN} if turn % 8 == 7 else {UNSEEN}, numpy.uint8))\n"
        "    time.sleep(0.1)\n"
    )
    parent, folder = begun(store, text, "events")
    feed, started_ns = workbench.Feed(folder), Run.open(folder).manifest.started_ns
    late: dict[bool, list[float]] = {True: [], False: []}  # seconds after which each block of the loop is told
    writings = 0
    while feed.is_live:
        now = time.monotonic_ns() - started_ns
        new = [row for row in feed.new("events").to_pylist() if row["asked"] in (SEEN, UNSEEN)]
        writings += bool(new)
        for row in new:
            late[row["asked"] == SEEN].append((now - row["time_ns"]) / 1e9)
        time.sleep(0.02)
    assert parent.wait(30) == 0
    assert len(late[True]) == 4
    assert statistics.median(late[True]) < 0.5, late
    assert statistics.median(late[False]) < 1, late
    assert writings < 24, "of 32 turns: what can not be seen has no writing of its own"


def test_a_phase_that_was_going_on_when_the_scribe_was_killed_is_known(store: Store) -> None:
    folder = create("killed", store)
    scribe = start_scribe(folder)
    line = Line(folder)
    line.ask("phase", name="unended", time_ns=time.monotonic_ns(), edge="start", pid=os.getpid(), thread=1)
    scribe.kill()
    scribe.wait()
    line.close()
    [phase] = Run.open(folder).table("phases").to_pylist()
    assert (phase["name"], phase["end_ns"]) == ("unended", None)


def test_a_feed_has_what_was_written_at_the_very_end(store: Store) -> None:
    folder = create("short", store)
    scribing, line = Scribing(folder), Line(folder)
    line.ask("note", key="answered", value=True)  # then its streams are there
    early, late = workbench.Feed(folder), workbench.Feed(folder)
    assert early.new("phases").num_rows == 0
    for edge in ("start", "end"):
        line.ask("phase", name="last", time_ns=time.monotonic_ns(), edge=edge, pid=os.getpid(), thread=1)
    line.close()
    run = scribing.finish("complete")
    assert not list(folder.glob("*.arrow"))
    assert [row["end_ns"] is None for row in early.new("phases").to_pylist()] == [True, False]
    assert late.new("phases").to_pylist() == run.table("phases").to_pylist()
    assert early.new("phases").num_rows == late.new("phases").num_rows == 0, "each row is told once"


def test_a_follower_until_the_end_has_every_event(store: Store) -> None:
    text = "import numpy, time\nkept = [(numpy.ones(1 << 17, numpy.uint8), time.sleep(0.01)) for _ in range(100)]\n"
    parent, folder = begun(store, text, "events")
    feed, told = workbench.Feed(folder), list[int]()
    while feed.is_live:
        told += feed.new("events")["time_ns"].to_pylist()
        time.sleep(0.3)
    told += feed.new("events")["time_ns"].to_pylist()
    assert parent.wait(30) == 0
    assert sorted(told) == Run.open(folder).table("events")["time_ns"].to_pylist()
