"""`workbench doctor`: records a small program here, and says what was seen and what can not be."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from workbench.cli.output import print_json, print_table, say
from workbench.cli.recording_options import passing_store
from workbench.engines import engines
from workbench.launch.checkup import SIZE, TORCH_CPU, TORCH_GPU, WAYS
from workbench.launch.programs import record_program
from workbench.run.run import Run
from workbench.run.sources import OFF, why_off
from workbench.run.store import home

SEEN = "seen"
BLIND = {
    "host": "requests below the threshold one by one; memory taken by system calls past libc; thread stacks are "
    "measured at phase edges only",
    "torch": "CPU blocks below the threshold one by one, unless asked for with `--blocks all`",
    "driver": "what other processes take on the same GPU, which is in the device's used memory all the same",
    "copies": "what CUPTI does not tell of: copies inside kernels",
    "totals": "page-locked memory: no counter of the kernel or the driver tells it",
}
"""What each source can not see anywhere."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def run(arguments: argparse.Namespace) -> int:
    """Check every source by recording with it."""
    with passing_store() as store:
        command = [sys.executable, "-m", "workbench.launch.checkup"]
        checked = record_program(command, store=store, raises_interrupts=True)
        report = _report(checked)
    if arguments.json:
        print_json(report)
    else:
        _print(report)
    return 0 if report["works"] else 1


def _report(checked: Run) -> dict[str, Any]:
    events = checked.events()
    asked = events[(events["kind"] == "alloc") & (events["asked"] == SIZE)]
    ways = {way: SEEN if (asked["tag"] == way).any() else "not seen" for way in WAYS}
    manifest = checked.manifest
    has_torch, has_gpu = "torch" in manifest.versions, bool(manifest.gpus)
    expected = [
        way for way in WAYS if way not in (() if has_torch else (TORCH_CPU,)) + (() if has_gpu else (TORCH_GPU,))
    ]
    return {
        "works": manifest.status == "complete" and all(ways[way] == SEEN for way in expected),
        "checks": {way: ways[way] for way in expected},
        "sources": [_source(name, manifest.sources.get(name, [])) for name in ("host", "torch", "driver")]
        + [_source("copies", [OFF + _why_no_copies(has_gpu)])]
        + [_source("totals", [] if has_gpu else ["no GPU: NVML is not asked"])],
        "stacks": int((asked["stack"] > 0).sum()) > 0,
        "gpus": manifest.gpus,
        "versions": manifest.versions | {"python": platform.python_version(), "pyarrow": metadata.version("pyarrow")},
        "engines": list(engines()),
        "home": str(home()),
    }


def _why_no_copies(has_gpu: bool) -> str:
    if not has_gpu:
        return "no GPU"
    return "on with `--copies`" if find_spec("cupti") else "cupti-python is not installed"


def _source(name: str, limits: list[str]) -> dict[str, Any]:
    why = why_off(limits)
    seen_here = [limit for limit in limits if not limit.startswith(OFF)]
    return {"name": name, "on": why is None, "why_off": why, "here": seen_here, "never": BLIND[name]}


def _print(report: dict[str, Any]) -> None:
    for check, found in report["checks"].items():
        say(f"{'ok' if found == SEEN else 'NOT SEEN':9}{check}")
    say(f"{'ok' if report['stacks'] else 'OFF':9}Python stacks of allocations")
    say()
    rows = []
    for source in report["sources"]:
        state = "on" if source["on"] else f"off: {source['why_off']}"
        rows.append([source["name"], state, "\n".join([*source["here"], source["never"]])])
    print_table(["source", "here", "can not see"], rows)
    say()
    say("GPUs: " + (", ".join(gpu["name"] for gpu in report["gpus"]) or "none"))
    say("versions: " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()))
    say(f"engines: {', '.join(report['engines'])}; runs and models are kept in {report['home']}")
