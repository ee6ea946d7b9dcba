"""`workbench models [NAME …]`: the models that have names, and where they are; named ones are fetched."""

from __future__ import annotations

import argparse

from workbench.cli.output import print_json, print_table
from workbench.config.models import MODELS, fetched, resolve, shapes


def configure(parser: argparse.ArgumentParser) -> None:
    """Which to fetch."""
    parser.add_argument("name", nargs="*", help="fetch this one: a name of the list, or a hub id such as org/model")


def run(arguments: argparse.Namespace) -> int:
    """List, or fetch and say where to."""
    rows = [[name, "fetched", str(resolve(name))] for name in arguments.name] or _known()
    if arguments.json:
        print_json([dict(zip(("model", "what", "folder"), row, strict=True)) for row in rows])
    else:
        print_table(["model", "what", "folder"], rows)
    return 0


def _known() -> list[list[str]]:
    packaged = [[name, "real weights", str(fetched(name) or "(not fetched)")] for name in MODELS]
    return packaged + [[name, "its shape, with random weights", ""] for name in sorted(shapes())]
