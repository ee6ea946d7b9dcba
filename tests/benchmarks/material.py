"""The recording that is measured: a generation by the real small model, every block of it, as sealed and as streams."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tests.benchmarks.processes import PYTHON, found, program, recorded
from workbench.run import schema
from workbench.run.manifest import FILE
from workbench.run.streams import Stream, coded, read_stream

TOKENS = 1360  # of them, for a million events
STREAMS = (*schema.TABLES, "names")


@dataclass(frozen=True)
class Material:
    """A recorded run, the streams that it was sealed from, and what other tools make of the same program."""

    run: Path
    streams: Path
    snapshot: Path  # what `workbench export --to snapshot` writes of it
    memray: Path


def make(folder: Path, quick: bool) -> Material:
    """Record it; where it was made for another benchmark, take that."""
    made = Material(folder / "material", folder / "streams", folder / "material.pickle", folder / "material.memray")
    if not made.run.exists():
        command = program("generate.py", TOKENS // 10 if quick else TOKENS, "reference")
        _record(command, folder / "runs", made)
        memray = [PYTHON, "-m", "memray", "run", "--quiet", "--follow-fork", "-o", str(made.memray), *command[1:]]
        found(memray)
    return made


def _record(command: list[str], store: Path, made: Material) -> None:
    """Record a program, and keep the streams: links to them outlive the sealing, which deletes its own."""
    recording = subprocess.Popen(
        recorded(command, store, "--blocks", "all", "--stacks", "large"), stdout=subprocess.DEVNULL
    )
    while not len(first := list(store.glob("*/names.arrow"))):
        time.sleep(0.01)
    made.streams.mkdir()
    link_streams(first[0].parent, made.streams)
    if recording.wait():
        raise SystemExit(f"{' '.join(command)} could not be recorded")
    first[0].parent.rename(made.run)


def link_streams(source: Path, target: Path, but: str = "") -> None:
    """Have the streams of one folder in another too."""
    for name in STREAMS:
        path = source / f"{name}.arrow"
        while not path.exists():  # the scribe is making them
            time.sleep(0.01)
        if name != but:
            os.link(path, target / path.name)


def unsealed(made: Material, target: Path, times: int) -> Path:
    """A folder with the recording as it was before it was sealed, its events `times` over, one after the other."""
    target.mkdir()
    os.link(made.run / FILE, target / FILE)
    link_streams(made.streams, target, but="events")
    batches = list(read_stream(made.streams / "events.arrow"))
    period = max(pc.max(batch.column("time_ns")).as_py() for batch in batches if batch.num_rows) + 1
    with Stream(target / "events.arrow", coded(schema.EVENTS)) as stream:
        for turn in range(times):
            for batch in batches:
                stream.write(_later(batch, turn * period))
    return target


def _later(batch: pa.RecordBatch, ns: int) -> pa.RecordBatch:
    place = batch.schema.get_field_index("time_ns")
    return batch.set_column(place, batch.schema.field(place), pc.add(batch.column(place), ns))
