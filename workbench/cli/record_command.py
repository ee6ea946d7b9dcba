"""`workbench record`: a workload under a config, or `-- PROGRAM …`, with all that it starts."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from workbench.cli.engine_options import RULES, add_engine_options, config_of, workload_of
from workbench.cli.output import print_line, say
from workbench.cli.recording_options import StdoutKeptClean, add_recording_options, recording_options, size_of
from workbench.errors import UsageError

if TYPE_CHECKING:
    from workbench.run.run import Run

OF_ENGINES = ("prompt", "prompts", "engine", "model", "config", "set", *RULES)


def configure(parser: argparse.ArgumentParser) -> None:
    """What to run, and how to record it."""
    parser.add_argument("--prompt", action="append", default=[], help="a prompt; several are answered together")
    add_engine_options(parser)
    add_recording_options(parser)
    recorded = "-- and a program with its arguments: recorded until it ends, with all that it starts"
    parser.add_argument("command", nargs=argparse.REMAINDER, help=recorded)


def run(arguments: argparse.Namespace) -> int:
    """Record, and end with one JSON object that names the run."""
    from workbench.launch.programs import PROCESSES

    with StdoutKeptClean(arguments.json):
        finished = _recorded(arguments, recording_options(arguments))
    manifest = finished.manifest
    if not arguments.json:
        say(f"recorded {manifest.counts.get('events', 0)} events in {finished.folder} ({size_of(finished)})")
    print_line(
        {"run": finished.id, "status": manifest.status, "folder": str(finished.folder), "exit_code": manifest.exit_code}
    )
    for what in manifest.sources.get(PROCESSES, []):
        print(f"workbench: {what}", file=sys.stderr)
    if manifest.error:
        print(f"workbench: {manifest.error['what']}", file=sys.stderr)
    return manifest.exit_code or int(manifest.error is not None)


def _recorded(arguments: argparse.Namespace, known: dict[str, Any]) -> Run:
    asked = [f"--{name.replace('_', '-')}" for name in OF_ENGINES if getattr(arguments, name) not in (None, [])]
    if asked and arguments.command:
        raise UsageError(f"{asked[0]} is of an engine, and {arguments.command[-1]!r} of a program: record one of them")
    if asked:
        from workbench.launch.generation import record

        return record(config_of(arguments), workload_of(arguments), **known)
    from workbench.launch.programs import record_program

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    return record_program(command, **known)
