"""`workbench import FILE`: make a run from a PyTorch memory snapshot."""

from __future__ import annotations

import argparse

from workbench.cli.arguments import filled
from workbench.cli.output import print_line, say
from workbench.run.importing import import_snapshot
from workbench.run.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """Which file."""
    parser.add_argument("file", help="a pickle written by torch.cuda.memory._dump_snapshot")
    parser.add_argument("--name", help="what the run is called; by default the file's name")
    parser.add_argument("--out", type=filled, metavar="FOLDER", help="the folder of runs to write into")


def run(arguments: argparse.Namespace) -> int:
    """Import, and end with one JSON object that names the run."""
    made = import_snapshot(arguments.file, name=arguments.name, store=Store(arguments.out))
    if not arguments.json:
        say(f"imported {made.manifest.counts['events']} events from {arguments.file} into {made.folder}")
    print_line({"run": made.id, "status": made.manifest.status, "folder": str(made.folder)})
    return 0
