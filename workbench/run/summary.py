"""A run in a few numbers, as plain data: what `show` prints, and what any other program may want."""

from __future__ import annotations

import dataclasses
from typing import Any

from workbench.run import schema
from workbench.run.ledger import Ledger
from workbench.run.run import Run
from workbench.units import SECOND


def summary(run: Run, at_ns: int | None = None) -> dict[str, Any]:
    """Manifest, phases, peaks and ledgers of a run; only of tiers in which anything happened."""
    tiers = [tier for tier in schema.TIERS if len(run.timeline(tier).times_ns)]
    return {
        "manifest": dataclasses.asdict(run.manifest),
        "phases": [_phase(run, phase, tiers) for phase in run.table("phases").to_pylist()],
        "peak": {tier: _peak(run, tier) for tier in tiers},
        "ledger": {tier: ledger_document(run.ledger(tier, at_ns)) for tier in tiers},
    }


def _phase(run: Run, phase: dict[str, Any], tiers: list[str]) -> dict[str, Any]:
    start, end = phase["start_ns"], phase["end_ns"]
    return {
        "name": phase["name"],
        "depth": phase["depth"],
        "process": phase["process"],
        "start_s": start / SECOND,
        "end_s": None if end is None else end / SECOND,
        "peak_bytes": {tier: run.timeline(tier).peak_between(start, end).bytes for tier in tiers},
        "end_bytes": {
            tier: run.timeline(tier).at(end) if end is not None else run.timeline(tier).end for tier in tiers
        },
    }


def _peak(run: Run, tier: str) -> dict[str, Any]:
    peak = run.timeline(tier).peak
    return {"bytes": peak.bytes, "time_s": peak.time_ns / SECOND}


def ledger_document(ledger: Ledger) -> dict[str, Any]:
    """A ledger as plain data."""
    return {
        "time_s": ledger.time_ns / SECOND,
        "used": ledger.used,
        "explained": ledger.explained,
        "unexplained": ledger.unexplained,
        "error": ledger.error,
        "owners": ledger.by_owner(),
        "entries": [dataclasses.asdict(entry) for entry in ledger.entries],
    }
