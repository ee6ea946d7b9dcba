"""What every command that records can be told about recording."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workbench.cli.arguments import filled
from workbench.recorder.settings import BLOCKS, STACKS, Settings
from workbench.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from workbench.run.run import Run
    from workbench.run.store import Store


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options, in a group of their own."""
    group = parser.add_argument_group("recording")
    group.add_argument("--name", type=filled, help="what the run is called; by default what it runs")
    group.add_argument("--out", type=filled, metavar="FOLDER", help="the folder of runs to write into")
    group.add_argument("--threshold", default="64KiB", help="host requests below it are not recorded one by one")
    group.add_argument(
        "--stacks", default="large", choices=STACKS, help="of which allocations the Python stack is kept"
    )
    group.add_argument(
        "--blocks", default="large", choices=BLOCKS, help="torch's CPU blocks: from the threshold on, or all"
    )
    group.add_argument(
        "--without", action="append", default=[], metavar="SOURCE", help="leave out host, driver or torch"
    )
    group.add_argument(
        "--copies", action="store_true", help="also when copies ran on the device, by CUPTI, which slows CUDA graphs"
    )


def recording_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Gives what was chosen, as the arguments `name`, `store` and `settings` of what records."""
    from workbench.run.store import Store

    settings = Settings(
        parse_bytes(arguments.threshold),
        arguments.stacks,
        arguments.blocks,
        tuple(arguments.without),
        arguments.copies,
    )
    return {"name": arguments.name, "store": Store(arguments.out) if arguments.out else None, "settings": settings}


def size_of(run: Run) -> str:
    """Gives what a run takes on disk, for people."""
    return format_bytes(sum(path.stat().st_size for path in run.folder.iterdir()))


@contextmanager
def passing_store() -> Iterator[Store]:
    """Gives a store that goes with the block: what interrupts it does not say that a run is kept."""
    from workbench.run.store import Store

    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Store(folder)
        except KeyboardInterrupt as end:
            vars(end).pop("__notes__", None)
            raise


class StdoutKeptClean:
    """While the block runs, what it and its children print on stdout goes to stderr, where `needed` says so."""

    def __init__(self, needed: bool) -> None:
        self._needed = needed

    def __enter__(self) -> None:
        if self._needed:
            sys.stdout.flush()
            self._stdout = os.dup(1)
            os.dup2(2, 1)

    def __exit__(self, *_: object) -> None:
        if self._needed:
            os.dup2(self._stdout, 1)
            os.close(self._stdout)
