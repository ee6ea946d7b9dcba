"""`workbench import FILE`: make a run from a PyTorch memory snapshot."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.cli.output import print_line, say
from workbench.run.interchange import import_snapshot
from workbench.run.manifest import IMPORTED, Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import write_run
from workbench.run.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """Which file."""
    parser.add_argument("file", help="a pickle written by torch.cuda.memory._dump_snapshot")
    parser.add_argument("--name", help="what the run is called; by default the file's name")
    parser.add_argument("--out", metavar="FOLDER", help="the folder of runs to write into")


def run(arguments: argparse.Namespace) -> int:
    """Import, and end with one JSON object that names the run."""
    path = Path(arguments.file)
    imported = import_snapshot(path)
    manifest = Manifest.new(arguments.name or path.stem, VERSION, notes=dict(imported.facts))
    manifest.status = IMPORTED
    made = write_run(Store(arguments.out).folder / manifest.id, manifest, imported.tables)
    if not arguments.json:
        say(f"imported {manifest.counts['events']} events from {path} into {made.folder}")
    print_line({"run": made.id, "status": manifest.status, "folder": str(made.folder)})
    return 0
