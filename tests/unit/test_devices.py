"""A run on a machine with two GPUs, of which it uses one: what others do on the other is not its matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.builders import MIB, event, gpu, total
from workbench.launch.feed import Feed
from workbench.recorder.book import BEFORE
from workbench.run import schema
from workbench.run.manifest import Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run
from workbench.run.sealing import seal
from workbench.run.store import Store
from workbench.run.streams import Names, Stream, coded
from workbench.view.live import Live

ON = {"device": 1}
BY_NOBODY = {"owner": BEFORE, "process": 0}
BEGIN = [gpu(0, "alloc", 600 * MIB, 10, **BY_NOBODY), gpu(0, "alloc", 500 * MIB, 11, **BY_NOBODY, **ON)]
THEIRS = [total(time_ns, "gpu", "used", (600 + time_ns) * MIB, process=0, device=0) for time_ns in (1, 9)]
OURS = [total(time_ns, "gpu", "used", size * MIB, process=0, **ON) for time_ns, size in ((1, 500), (9, 540))]


class Written:
    """A run that is being written."""

    def __init__(self, store: Path) -> None:
        self.folder = Store(store).create(Manifest.new("two", VERSION))
        self._names = Names(self.folder)
        self._names.id("")
        tables = {"events": schema.EVENTS, "totals": schema.TABLES["totals"], "phases": schema.PHASES}
        self._tables = tables
        self._streams = {name: Stream(self.folder / f"{name}.arrow", coded(table)) for name, table in tables.items()}

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        text = [field.name for field in self._tables[name] if field.type == schema.TEXT]
        made = [row | {column: self._names.id(row[column]) for column in text if row[column]} for row in rows]
        self._names.flush()
        self._streams[name].write_rows(made)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    begun = Written(tmp_path)
    begun.write("events", BEGIN)
    return begun


@pytest.mark.parametrize("sealed", [True, False])
def test_only_gpus_that_the_run_used_are_in_it(written: Written, sealed: bool) -> None:
    written.write("events", [event(4, "alloc", MIB, 5), gpu(5, "alloc", 40 * MIB, 20, **ON)])
    written.write("totals", [*THEIRS, *OURS, total(9, "pageable", "resident", MIB)])
    if sealed:
        seal(written.folder)
    run = Run.open(written.folder)
    ledger = run.ledger("gpu", 9)
    assert (ledger.used, ledger.unexplained) == (540 * MIB, 0)
    assert ledger.by_owner() == {BEFORE: 500 * MIB, "libc10_cuda.so": 40 * MIB}
    assert run.timeline("gpu").peak.bytes == 540 * MIB
    assert len(run.table("totals")) == 3, "the host's stay"


def test_where_nobody_is_known_to_use_a_gpu_all_are_told(written: Written) -> None:
    """As without the driver's events: torch's alone do not say by which number NVML has its GPU."""
    written.write("events", [gpu(5, "alloc", 40 * MIB, 20, layer="allocator", owner="torch")])
    written.write("totals", [*THEIRS, *OURS])
    seal(written.folder)
    assert Run.open(written.folder).ledger("gpu", 9).used == (609 + 540) * MIB


def test_a_live_picture_has_only_gpus_that_the_run_has_used_by_then(written: Written) -> None:
    written.write("totals", THEIRS[:1] + OURS[:1])
    live = Live(Feed(written.folder))
    live.look()
    assert live.answer().facts["bands"] == []
    written.write("events", [gpu(5, "alloc", 40 * MIB, 20, **ON)])
    written.write("totals", THEIRS[1:] + OURS[1:])
    assert live.look()
    told = live.answer()
    columns: Any = told.columns
    assert {band["name"] for band in told.facts["bands"]} == {BEFORE, "libc10_cuda.so"}
    assert [int(columns["band 0"][-1]), int(columns["band 1"][-1])] == [500 * MIB, 40 * MIB]
    assert columns["time"].tolist() == sorted(columns["time"].tolist())
    assert columns["truth"].tolist() == [540 * MIB]
    written.write("events", [gpu(7, "alloc", 8 * MIB, 30, device=0)])
    live.look()
    columns = live.answer().columns
    assert columns["band 0"].tolist()[-1] == 1100 * MIB, "what was there before it came into use too"
    assert columns["time"].tolist() == sorted(columns["time"].tolist())
