"""`workbench compare RUN RUN …`: what differs between runs."""

from __future__ import annotations

import argparse

from workbench.cli.arguments import filled
from workbench.cli.output import print_json, print_table, say
from workbench.compare.comparison import Comparison, Difference
from workbench.run.store import Store
from workbench.units import format_bytes

MOST_ROWS = 15


def configure(parser: argparse.ArgumentParser) -> None:
    """Which runs."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="two runs or more; differences are against the first")
    parser.add_argument(
        "--store", type=filled, metavar="FOLDER", help="a folder of runs; by default $WORKBENCH_HOME/runs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the differences by owner and by phase, the largest first."""
    store = Store(arguments.store)
    comparison = Comparison([store.open(one) for one in arguments.runs])
    if arguments.json:
        print_json(comparison.document())
        return 0
    for letter, one in zip("ABCDEFGHIJ", comparison.runs, strict=False):
        say(f"{letter}  {one.id}  {one.manifest.status}")
    if not comparison.has_same_workloads:
        say("their workloads are not the same, which makes a difference, too: `workbench show` tells each")
    for tier in comparison.tiers:
        _print(f"{tier} by owner, at the fullest phase edge", comparison.owners(tier)[:MOST_ROWS])
        _print(f"{tier} peak by phase", comparison.phases(tier))
    return 0


def _print(title: str, differences: list[Difference]) -> None:
    if not differences:
        return
    count = len(differences[0].bytes)
    letters = "ABCDEFGHIJ"[:count]
    columns = [f"{letter}>" for letter in letters] + [f"{letter} - A>" for letter in letters[1:]]
    say()
    print_table(["", *columns], [_cells(one) for one in differences], title)


def _cells(one: Difference) -> list[str]:
    first, *rest = one.bytes
    return [one.what, *(format_bytes(size) for size in one.bytes), *(_signed(size - first) for size in rest)]


def _signed(size: int) -> str:
    return f"{'+' if size > 0 else '-' if size < 0 else ''}{format_bytes(abs(size))}"
