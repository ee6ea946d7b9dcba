"""Streams: how many distinct ones the recorded copies were on, and how deep their queues were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from workbench.mechanisms.streams.transfers import FACTS
from workbench.run.columns import equals, numbers
from workbench.run.evidence import CANNOT_TELL, NOT_OBSERVED, OBSERVED, Evidence
from workbench.run.run import Run

DIRECTIONS = {"host to device": "loads", "device to host": "stores"}
CLOCKS_NS = 50_000  # how far the device's clock may be off: so much of a copy's end does not count

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Use:
    """What the copies of one direction used."""

    streams: int
    deepest: int  # copies that one stream had at a time: handed on, and not over
    at_once: int  # copies that all streams had at a time

    def __str__(self) -> str:
        """Gives the words of a verdict."""
        return f"{self.streams} distinct streams, up to {self.deepest} copies on one and {self.at_once} on all"


def evidence(run: Run) -> Evidence | None:
    """Gives whether the copies were on as many streams as the value says; None: the run used no streams of ours."""
    facts = run.manifest.notes.get(FACTS)
    if not facts:
        return None
    setting = f"streams {facts['value']}"
    used = uses(run)
    if not used:
        return Evidence(setting, CANNOT_TELL, "no copy is there with all its times")
    why = "; ".join(f"{direction}: {use}" for direction, use in used.items())
    if all(use.at_once == 1 for use in used.values()):
        return Evidence(setting, CANNOT_TELL, f"no two copies were under way at a time; {why}")
    fits = all(_fits(use, facts["limit"], facts["depth"]) for use in used.values())
    return Evidence(setting, OBSERVED if fits else NOT_OBSERVED, why)


def uses(run: Run) -> dict[str, Use]:
    """Gives by direction what the copies that were told of by the streams themselves used."""
    copies = run.table("copies")
    told = copies.filter(pc.and_(pc.is_valid(copies["call_ns"]), pc.is_valid(copies["end_ns"])))
    parts = {name: told.filter(pa.array(equals(told, "direction", text))) for text, name in DIRECTIONS.items()}
    return {name: _use(part) for name, part in parts.items() if part.num_rows}


def _fits(use: Use, limit: int, depth: int) -> bool:
    """Whether no more was used than there is, and nothing shared while a stream was free."""
    return min(limit, use.at_once) <= use.streams <= limit and use.deepest <= depth


def _use(copies: pa.Table) -> Use:
    streams = np.unique(numbers(copies, "stream"), return_inverse=True)[1]
    handed = numbers(copies, "handed_ns")
    over = np.maximum(numbers(copies, "end_ns") - CLOCKS_NS, handed + 1)
    return Use(int(streams.max()) + 1, _most(streams, handed, over), _most(np.zeros_like(streams), handed, over))


def _most(groups: Ints, starts: Ints, ends: Ints) -> int:
    """The most intervals of one group that any moment is in."""
    times, change = np.concatenate([starts, ends]), np.repeat([1, -1], len(starts))
    order = np.lexsort((change, times, np.concatenate([groups, groups])))
    return int(np.cumsum(change[order]).max())
