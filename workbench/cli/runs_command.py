"""`workbench runs`: the recorded runs, newest first."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from workbench.cli.arguments import filled
from workbench.cli.output import print_json, print_table, say
from workbench.errors import RunError
from workbench.run.run import Run
from workbench.run.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """Where to look."""
    parser.add_argument(
        "--store", type=filled, metavar="FOLDER", help="a folder of runs; by default $WORKBENCH_HOME/runs"
    )


def run(arguments: argparse.Namespace) -> int:
    """List the runs of a store."""
    store = Store(arguments.store)
    rows = [_summary(run) for run in store.runs(_warn)]
    if arguments.json:
        print_json(rows)
    elif rows:
        print_table(["run", "status", "seconds>", "events>"], [[str(cell) for cell in _cells(row)] for row in rows])
    else:
        say(f"no runs in {store.folder} yet: `workbench record --help` says how to make one")
    return 0


def _warn(error: RunError) -> None:
    print(f"workbench: {' '.join(str(error).split())}", file=sys.stderr)


def _summary(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    return {
        "run": manifest.id,
        "name": manifest.name,
        "status": manifest.status,
        "started": manifest.started,
        "duration_s": manifest.duration_s,
        "counts": manifest.counts,
        "exit_code": manifest.exit_code,
    }


def _cells(row: dict[str, Any]) -> list[object]:
    seconds = "" if row["duration_s"] is None else f"{row['duration_s']:.1f}"
    return [row["run"], row["status"], seconds, row["counts"].get("events", "")]
