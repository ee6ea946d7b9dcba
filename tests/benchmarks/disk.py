"""What an event takes on disk, stacks included, beside what memray and a snapshot take."""

from __future__ import annotations

from pathlib import Path

from memray import FileReader

from tests.benchmarks import material
from tests.benchmarks.processes import documents, workbench
from tests.benchmarks.rows import Row
from workbench.run.manifest import Manifest

MOST_BYTES = 10.0


def measure(folder: Path, quick: bool) -> list[Row]:
    """Bytes an event of the recording, of memray's file and of a snapshot."""
    made = material.make(folder, quick)
    events = Manifest.read(made.run).counts["events"]
    taken = sum((made.run / f"{name}.parquet").stat().st_size for name in ("events", "stacks"))
    export(made)
    unit = "bytes an event"
    pickled = made.snapshot.stat().st_size / events
    records = FileReader(made.memray).metadata.total_allocations  # frees are counted too
    traced = made.memray.stat().st_size
    spread = f"{events} events"
    return [
        Row("on disk, stacks included", taken / events, unit, MOST_BYTES, spread, "memray", traced / records),
        Row("on disk, stacks included", taken / events, unit, MOST_BYTES, spread, "the same events' snapshot", pickled),
        Row(
            "the whole file of this generation", taken / 1e6, "MB", None, "", f"memray, {records} records", traced / 1e6
        ),
    ]


def export(made: material.Material) -> None:
    """Have the snapshot of the recording."""
    if not made.snapshot.exists():
        documents(workbench("export", str(made.run), "--to", "snapshot", "--out", str(made.snapshot)))
