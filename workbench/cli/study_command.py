"""`workbench study NAME`: a question, the runs that answer it, and the answer."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from workbench.cli.arguments import filled
from workbench.cli.output import print_json, print_table, say
from workbench.cli.recording_options import StdoutKeptClean

if TYPE_CHECKING:
    from workbench.studies.base import Findings


def configure(parser: argparse.ArgumentParser) -> None:
    """Which, how often, and where to."""
    parser.add_argument("name", nargs="?", help="a study; without one they are listed")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each variant, in turn; 3 tell what is noise")
    only = "run only the variants with this in their names, and what they are compared with"
    parser.add_argument("--only", default="", metavar="TEXT", help=only)
    parser.add_argument("--out", type=filled, metavar="FOLDER", help="the folder of runs to write into")


def run(arguments: argparse.Namespace) -> int:
    """Run the study, and print its numbers and its answer."""
    from workbench.run.store import Store
    from workbench.studies import STUDIES
    from workbench.studies.base import do, named

    if arguments.name is None:
        return _list(arguments.json)
    study = named(arguments.name, STUDIES)
    with StdoutKeptClean(arguments.json):
        store = Store(arguments.out) if arguments.out else None
        findings = do(study, arguments.repeats, store, _tell, arguments.only)
    if arguments.json:
        print_json(findings.document())
    else:
        _print(findings)
    return 1 if any(outcome.failures for outcome in findings.outcomes) else 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _list(as_json: bool) -> int:
    from workbench.studies import STUDIES

    known = [study() for study in STUDIES.values()]
    if as_json:
        print_json([{"name": study.name, "question": study.question} for study in known])
    else:
        print_table(["study", "question"], [[study.name, study.question] for study in known])
    return 0


def _print(findings: Findings) -> None:
    """The question, its answer, what failed or was not run here, and the numbers, as the table has them."""
    from workbench.view.findings import NOISE, failed, has_noise, not_run, table

    say(findings.study.question)
    for sentence in findings.answer:
        say(f"  {sentence}.")
    for reason in failed(findings):
        say(f"  {reason}")
    for reason in not_run(findings):
        say(f"  not run here: {reason}")
    head, *rows = table(findings)
    if rows:
        say()
        print_table([head[0], *(f"{name}>" for name in head[1:])], rows)
    if has_noise(rows):
        say(NOISE)
