"""`workbench record -- PROGRAM …`: any program, and all that it starts."""

from __future__ import annotations

import argparse
import sys

from workbench.cli.output import print_line, say
from workbench.cli.recording_options import StdoutKeptClean, add_recording_options, recording_options, size_of


def configure(parser: argparse.ArgumentParser) -> None:
    """What to run, and how to record it."""
    add_recording_options(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and a program with its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Record, and end with one JSON object that names the run."""
    from workbench.launch.programs import record_program

    known = recording_options(arguments)
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    with StdoutKeptClean(arguments.json):
        finished = record_program(command, **known)
    manifest = finished.manifest
    if not arguments.json:
        say(f"recorded {manifest.counts.get('events', 0)} events in {finished.folder} ({size_of(finished)})")
    print_line(
        {"run": finished.id, "status": manifest.status, "folder": str(finished.folder), "exit_code": manifest.exit_code}
    )
    if manifest.error:
        print(f"workbench: {manifest.error['what']}", file=sys.stderr)
    return manifest.exit_code or int(manifest.error is not None)
