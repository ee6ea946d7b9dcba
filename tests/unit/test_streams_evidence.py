"""The verdict on streams, from copies whose queues are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.builders import table
from workbench.compare.evidence import evidence
from workbench.mechanisms.streams.evidence import Use, uses
from workbench.run.evidence import CANNOT_TELL, NOT_OBSERVED, OBSERVED
from workbench.run.manifest import COMPLETE, Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run, write_run

MS = 1_000_000


def copy(stream: int, submitted: int, ended: int, direction: str = "host to device", **known: Any) -> dict[str, Any]:
    """One copy, times in ms."""
    row = {"time_ns": 0, "handed_ns": submitted * MS, "call_ns": 5000, "start_ns": submitted * MS, "end_ns": ended * MS}
    return row | {"bytes": 4096, "direction": direction, "device": 0, "stream": stream, "process": 1} | known


def run_of(folder: Path, copies: list[dict[str, Any]], **facts: object) -> Run:
    manifest = Manifest.new("made", VERSION, notes={"streams": facts} if facts else {})
    manifest.status = COMPLETE
    return write_run(folder / manifest.id, manifest, {"copies": table("copies", copies)})


def verdict(run: Run) -> str:
    [found] = evidence(run)
    return found.verdict


THREE_ON_ONE = [copy(7, 0, 5), copy(7, 1, 6), copy(7, 2, 7)]
THREE_ON_THREE = [copy(7, 0, 5), copy(8, 1, 6), copy(9, 2, 7)]
ONE_AFTER_ANOTHER = [copy(7, 0, 1), copy(7, 1, 2), copy(7, 3, 4)]
SINGLE: dict[str, object] = {"value": "single", "limit": 1, "depth": 1 << 60}
PER_TRANSFER: dict[str, object] = {"value": "per-transfer", "limit": 100, "depth": 1}
BOUNDED: dict[str, object] = {"value": "bounded", "limit": 2, "depth": 2}


def test_depth_is_counted_by_stream_and_over_all(tmp_path: Path) -> None:
    stores = [copy(5, 0, 9, "device to host"), copy(5, 1, 2, "device to host")]
    others = [copy(1, 0, 9, call_ns=None), copy(2, 0, 9, end_ns=None, start_ns=None)]  # not told by streams
    found = uses(run_of(tmp_path, [*THREE_ON_THREE, copy(7, 6, 8), *stores, *others]))
    assert found == {"loads": Use(streams=3, deepest=1, at_once=3), "stores": Use(streams=1, deepest=2, at_once=2)}


@pytest.mark.parametrize(
    ("facts", "copies", "expected"),
    [
        (SINGLE, THREE_ON_ONE, OBSERVED),
        (SINGLE, THREE_ON_THREE, NOT_OBSERVED),
        (PER_TRANSFER, THREE_ON_THREE, OBSERVED),
        (PER_TRANSFER, THREE_ON_ONE, NOT_OBSERVED),
        (BOUNDED, [copy(7, 0, 5), copy(8, 1, 6), copy(7, 2, 7)], OBSERVED),
        (BOUNDED, [copy(7, 0, 5), copy(7, 1, 6)], NOT_OBSERVED),  # shared, while there could be another
        (BOUNDED, THREE_ON_ONE, NOT_OBSERVED),
        (BOUNDED, THREE_ON_THREE, NOT_OBSERVED),
        (SINGLE, ONE_AFTER_ANOTHER, CANNOT_TELL),
        (PER_TRANSFER, [copy(7, 0, 5, call_ns=None)], CANNOT_TELL),
        (PER_TRANSFER, [], CANNOT_TELL),
    ],
)
def test_the_verdict_is_what_the_copies_say(
    tmp_path: Path, facts: dict[str, object], copies: list[dict[str, Any]], expected: str
) -> None:
    assert verdict(run_of(tmp_path, copies, **facts)) == expected


def test_a_run_without_streams_has_no_verdict_on_them(tmp_path: Path) -> None:
    assert evidence(run_of(tmp_path, THREE_ON_ONE)) == []
