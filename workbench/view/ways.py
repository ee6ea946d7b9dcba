"""Which of the compared runs are repeats of one way of running, and what the ways differ in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from workbench.run.run import Run
from workbench.units import shown

LONGEST = 40  # letters of a setting in a name
TOLD = 200  # letters of a setting beside others: prompts can be long
HARDWARE = "hardware"


@dataclass(frozen=True)
class Way:
    """Runs of one config and the same workloads on like hardware, or where none is known of one name and command."""

    name: str
    runs: tuple[int, ...]  # places in the comparison


def ways_of(runs: Sequence[Run]) -> list[Way]:
    """The ways of running, in the order of their first runs."""
    found: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault(_key(run), []).append(place)
    names = _told_apart([runs[places[0]] for places in found.values()])
    return [Way(name, tuple(places)) for name, places in zip(names, found.values(), strict=True)]


def _told_apart(runs: Sequence[Run]) -> list[str]:
    """The names of runs; after those that are the same their hardware, the setting they differ in, or a letter."""
    names = [run.manifest.name for run in runs]
    differing = dict(_differing([_flat(run) for run in runs]))
    if len(differing) == 1 and HARDWARE not in differing:
        [(setting, values)] = differing.items()
        more = [f"{setting.rpartition('.')[2]} {value}" for value in values]
    else:
        more = differing.get(HARDWARE, [])
    if len(set(more)) < len(names) or max(map(len, more)) > LONGEST:
        more = list("ABCDEF"[: len(names)])
    return [f"{name}, {own}" if names.count(name) > 1 else name for name, own in zip(names, more, strict=True)]


def _key(run: Run) -> str:
    manifest = run.manifest
    known = [_settings(run)] if manifest.config else [manifest.name, manifest.command]
    return json.dumps([*known, _hardware(run)], sort_keys=True)


def settings_of(runs: Sequence[Run], ways: Sequence[Way]) -> list[tuple[str, list[str]]]:
    """The settings in which the ways differ, with the value of each."""
    differing = _differing([_flat(runs[way.runs[0]]) for way in ways])
    return [(name, [_cut(value) for value in values]) for name, values in differing]


def _cut(value: str) -> str:
    return value if len(value) <= TOLD else f"{value[:TOLD]}… ({len(value)} letters)"


def _differing(flat: list[dict[str, str]]) -> list[tuple[str, list[str]]]:
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [(name, [one.get(name, "") for one in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _flat(run: Run) -> dict[str, str]:
    manifest = run.manifest
    if manifest.config is None:
        return {"command": " ".join(manifest.command or [manifest.name])}
    found = _settings(run) | {f"version of {name}": version for name, version in manifest.versions.items()}
    return found | {HARDWARE: _hardware(run)}


def _hardware(run: Run) -> str:
    return ", ".join(gpu["name"] for gpu in run.manifest.gpus) or str(run.manifest.host.get("cpu", ""))


def _settings(run: Run) -> dict[str, str]:
    """Each setting of its config and what it was asked, as people write it."""
    found: dict[str, str] = {}
    _flatten("", run.manifest.config or {}, found)
    _flatten("workload", _asked(run.workloads), found)
    return found


def _asked(workloads: list[dict[str, Any]]) -> dict[str, Any]:
    """Prompts and rules of the one workload, or of all the values of each."""
    if len(workloads) == 1:
        return workloads[0]
    return {name: [one.get(name) for one in workloads] for name in dict.fromkeys(chain(*workloads))}


def _flatten(prefix: str, value: Any, found: dict[str, str]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _flatten(f"{prefix}.{name}" if prefix else name, inner, found)
    else:
        found[prefix] = shown(value) if isinstance(value, str) else "not set" if value is None else json.dumps(value)
