"""What the hooks cost the thread that asks for GPU memory: torch's blocks, its segments, and the driver's own."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.processes import Document, found, gpu_program, recorded
from tests.benchmarks.rows import Row

MOST_NS = 1000.0  # of a recorded event of the driver's
PAIRS = {"block_ns": "a block from torch's cache", "segment_ns": "a segment of torch's from the driver"}


def measure(folder: Path, quick: bool) -> list[Row]:
    """Nanoseconds of an allocation and its free: what recording adds, beside what torch's own history adds."""
    command = gpu_program("block_cost.py")
    plain, history = found(command), found([*command, "--history"])
    rows = []
    for way, options in (("recorded", []), ("recorded without stacks", ["--stacks", "none"])):
        more = found(recorded(command, folder, *options))
        rows += [_pair(name, way, more, plain, history) for name in PAIRS]
        event, call = more["raw_ns"]["more"] / 2, more["raw_ns"]["off"] / 2
        rows.append(Row(f"an event of the driver's, {way}", event, "ns", MOST_NS, "", "the call itself", call))
    return rows


def _pair(name: str, way: str, more: Document, plain: Document, history: Document) -> Row:
    what, alone = f"{PAIRS[name]} and its free, {way}", plain[name]["plain"]
    spread = f"more than {more[name]['off']} not recorded, {alone} in a plain process"
    return Row(what, more[name]["more"], "ns", None, spread, "torch's history", history[name]["plain"] - alone)
