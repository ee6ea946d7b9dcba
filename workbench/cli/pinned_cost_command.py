"""`workbench pinned-cost SIZE`: what page-locked memory of a size takes, measured where it fits, else predicted."""

from __future__ import annotations

import argparse
import dataclasses

from workbench.cli.output import print_json, print_table
from workbench.cli.recording_options import StdoutKeptClean, passing_store
from workbench.units import format_bytes, parse_bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """How much."""
    parser.add_argument("size", help="such as 257GiB")


def run(arguments: argparse.Namespace) -> int:
    """Print what each arm takes, and how that is known."""
    from workbench.studies.pinned_memory import Cost, costs

    asked = parse_bytes(arguments.size)
    with passing_store() as store, StdoutKeptClean(arguments.json):
        found = costs(asked, store)
    if arguments.json:
        print_json({"asked": asked, "arms": [dataclasses.asdict(cost) for cost in found]})
        return 0

    def cells(cost: Cost) -> list[str]:
        return [cost.arm, format_bytes(cost.taken), f"{cost.taken - asked:,}", cost.how, cost.why or _measured(cost)]

    columns = ["", "takes>", "bytes more than asked>", "how known", ""]
    print_table(columns, map(cells, found), f"{format_bytes(asked)} of host memory")
    return 0


def _measured(cost: object) -> str:
    seconds, owners = getattr(cost, "allocate_s", None), getattr(cost, "owners", ())
    by = f", by {', '.join(owners)}" if owners else ""
    return f"in {seconds * 1000:.1f} ms{by}" if seconds is not None else ""
