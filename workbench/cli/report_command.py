"""`workbench report STUDY -p name=value --out DIR`: a study's notebook executed, as a page and as findings."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.cli.arguments import filled
from workbench.cli.output import print_json, say
from workbench.cli.recording_options import StdoutKeptClean
from workbench.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Which, with what, and where to."""
    parser.add_argument("study", help="a study that `workbench study` lists")
    parser.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="a parameter of its notebook"
    )
    parser.add_argument(
        "--out", type=filled, metavar="DIR", help="the folder to write notebook, page and findings into"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the report that is there")


def run(arguments: argparse.Namespace) -> int:
    """Execute the notebook, and say where the report is."""
    from workbench.report.batch import report

    if not arguments.out:
        raise UsageError("a report needs a folder to go to: give --out DIR")
    with StdoutKeptClean(arguments.json):
        files = report(arguments.study, arguments.parameters, Path(arguments.out), overwrite=arguments.overwrite)
    if arguments.json:
        print_json({kind: str(path) for kind, path in vars(files).items()})
    else:
        for path in vars(files).values():
            say(f"wrote {path}")
    return 0
