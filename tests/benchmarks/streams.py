"""What many transfers in flight cost who submits them, by how they share streams."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.processes import PYTHON, Document, found
from tests.benchmarks.rows import Row
from workbench.studies.kv_streams import IDLE_NS

IN_FLIGHT = (1, 10, 100, 1_000, 10_000, 100_000)
SIZE = 4096
MIB, US = 1 << 20, 1e6
NEVER_WAIT = ("per-transfer", "bounded")  # for room
Found = list[Document]  # by how many are in flight


def measure(folder: Path, quick: bool) -> list[Row]:
    """The rows of every value of streams."""
    measured: dict[str, Found] = {value: [] for value in ("single", *NEVER_WAIT)}
    for in_flight in IN_FLIGHT[:4] if quick else IN_FLIGHT:
        for value, of_value in measured.items():  # in turn, beside the single stream's as an anchor
            of_value.append(_found(value, in_flight))
    return [row for value in measured for row in _rows(value, measured[value], measured["single"])]


def _found(value: str, in_flight: int) -> Document:
    return found([PYTHON, "-m", "workbench.studies.kv_streams_program", value, str(in_flight), str(SIZE)])


def _rows(value: str, found: Found, single: Found) -> list[Row]:
    """A row a count, and what all of them say."""
    never_waits = value in NEVER_WAIT
    rows = [_submitting(value, one, beside) for one, beside in zip(found, single, strict=True)]
    memory = max(one["private_bytes"] + one["pinned_bytes"] for one in found) / MIB
    blocked = [one["first_blocked"] for one in found if one["first_blocked"]]
    corrupted = sum(one["corrupted"] for one in found)
    last = found[-1]
    return [
        *rows,
        Row(
            f"{value}: counts at which a call waits for room",
            len(blocked),
            "",
            0 if never_waits else None,
            _cliff(blocked),
        ),
        Row(f"{value}: the host's memory", memory, "MiB", 1024),
        Row(f"{value}: {last['in_flight']} delay the compute beside them", last["delay_s"] * 1000, "ms"),
        Row(f"{value}: blocks corrupted", corrupted, "", 0),
    ]


def _submitting(value: str, found: Document, single: Document) -> Row:
    times = {name: found[f"{name}_s"] * US for name in ("p50", "first", "driver_p99", "idle_p99", "max")}
    parts = f"p99 in the driver {times['driver_p99']:.2f}, median first after compute {times['first']:.2f}"
    parts += f", p99 of an empty loop of {IDLE_NS / 1000:g} {times['idle_p99']:.2f}"
    spread = f"p50 {times['p50']:.2f}, {parts}, max {times['max']:.0f}"
    what = f"{value}, {found['in_flight']} in flight: p99 of a submit call"
    anchor = ("", None) if value == "single" else ("single", single["p99_s"] * US)
    return Row(what, found["p99_s"] * US, "us", 10 if value in NEVER_WAIT else None, spread, *anchor)


def _cliff(blocked: list[int]) -> str:
    return f"the first is call {min(blocked)}" if blocked else ""
