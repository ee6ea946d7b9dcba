"""CUDA graphs: whether any were captured, by the memory that they take, and of which kind the engine says they are."""

from __future__ import annotations

from typing import Any

from workbench.run.columns import equals, numbers
from workbench.run.evidence import CANNOT_TELL, NOT_OBSERVED, OBSERVED, Evidence, unseen
from workbench.run.run import Run
from workbench.units import format_bytes

OWNER = "graphs"  # what the driver took around the making of graphs


def evidence(run: Run, chosen: Any) -> Evidence | None:
    """Gives whether graphs are there, or are not, as was asked; None: nothing was asked."""
    if chosen.name == "stock":
        return None
    setting = f"graphs {chosen.name}"
    if not run.manifest.gpus:
        return Evidence(setting, CANNOT_TELL if chosen.name != "none" else OBSERVED, "the run's machine has no GPU")
    return unseen(run, setting, "driver") or _judge(run, setting, chosen)


def _judge(run: Run, setting: str, chosen: Any) -> Evidence:
    if chosen.name != "none" and "capture" not in run.table("phases")["name"].to_pylist():
        return Evidence(setting, NOT_OBSERVED, "the run has no phase capture")
    taken, kind = graph_bytes(run), run.manifest.notes.get("engine", {}).get("graphs")
    shows = bool(taken) != (chosen.name == "none") and (kind is None or chosen.name in kind)
    said = f", and are {kind} by the engine's word" if kind else "; of which kind they are the engine does not say"
    return Evidence(
        setting, OBSERVED if shows else NOT_OBSERVED, f"graphs took {format_bytes(taken)} of the driver's{said}"
    )


def graph_bytes(run: Run) -> int:
    """Gives the device memory that the driver took to make graphs, in all."""
    events = run.table("events")
    chosen = equals(events, "owner", OWNER) & equals(events, "kind", "alloc") & equals(events, "tier", "gpu")
    return int(numbers(events, "bytes")[chosen].sum())
