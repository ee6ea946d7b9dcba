"""When it is read who holds a process's pages."""

from __future__ import annotations

import mmap
import os
import time
from ctypes import addressof, c_char
from pathlib import Path
from typing import Any

import numpy as np

from workbench.recorder.native import ALLOC, HOST
from workbench.recorder.readings import Readings
from workbench.recorder.rows import ROW
from workbench.run.streams import Names

SIZE = 8 << 20


class Written:
    """A stream that keeps what is written."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows


def test_what_is_held_since_before_is_read_also_where_that_was_just_done_without_it(tmp_path: Path) -> None:
    """A process that is recorded late may have been seen before it said hello."""
    names, written, me = Names(tmp_path), Written(), os.getpid()
    names.id("")
    readings = Readings(names, written, started_ns=0)  # type: ignore[arg-type]
    held = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    row = np.zeros(1, ROW)
    row["kind"], row["layer"], row["owner"] = ALLOC, HOST, names.id("before the run")
    row["address"], row["bytes"] = addressof(c_char.from_buffer(held)), SIZE
    readings.edge([], time.monotonic_ns(), {me: None})
    assert names.id("before the run") not in [one["owner"] for one in written.rows]
    readings.note_before(me, row)
    readings.edge([], time.monotonic_ns(), {me: None})
    assert [one["bytes"] for one in written.rows if one["owner"] == names.id("before the run")] == [SIZE]
