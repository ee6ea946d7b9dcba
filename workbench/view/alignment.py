"""Runs on one axis of time: where each phase begins and ends in all of them at the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.run.run import Run
from workbench.view.screen import Screen

Edge = tuple[str, str]


@dataclass(frozen=True)
class Alignment:
    """Moments of each run, `own[run]`, and where they lie on the shared axis, `shared`: both ascend, in ns.

    Between two moments a run takes its own time; one that takes less waits for the slowest at the next.
    """

    own: tuple[tuple[int, ...], ...]
    shared: tuple[int, ...]


def align(screens: Sequence[Screen]) -> Alignment:
    """The alignment of runs by the phases that all of them have; a phase met again is another."""
    edges = [_edges(screen.run, screen.end_ns) for screen in screens]
    common = [edge for edge in edges[0] if all(edge in one for one in edges)]
    own = [[0] for _ in screens]
    for edge in sorted(common, key=lambda one: edges[0][one]):
        moments = [one[edge] for one in edges]
        if all(moment >= known[-1] for moment, known in zip(moments, own, strict=True)):
            for moment, known in zip(moments, own, strict=True):
                known.append(moment)
    for screen, known in zip(screens, own, strict=True):
        known.append(max(screen.end_ns, known[-1]))
    shared = [0]
    for place in range(1, len(own[0])):
        shared.append(shared[-1] + max(known[place] - known[place - 1] for known in own))
    return Alignment(tuple(tuple(known) for known in own), tuple(shared))


def _edges(run: Run, end_ns: int) -> dict[Edge, int]:
    found: dict[Edge, int] = {}
    for phase in run.table("phases").to_pylist():
        name, number = phase["name"], 2
        while (name, "start") in found:
            name, number = f"{phase['name']} {number}", number + 1
        found[name, "start"] = phase["start_ns"]
        found[name, "end"] = end_ns if phase["end_ns"] is None else phase["end_ns"]
    return found
