"""`workbench export RUN --to FORMAT`: write a run for a browser, or for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.cli.arguments import filled
from workbench.cli.output import print_line, say
from workbench.errors import UsageError, nearest
from workbench.run.interchange import export_csv, export_parquet, export_perfetto, export_snapshot
from workbench.run.interchange.files import replacing
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.units import format_bytes


def _export_html(run: Run, path: Path, overwrite: bool) -> None:
    with replacing(path, overwrite) as temporary:
        run.to_html(temporary)


EXPORTS = {
    "html": (_export_html, ".html"),
    "perfetto": (export_perfetto, ".pftrace"),
    "snapshot": (export_snapshot, ".pickle"),
    "csv": (export_csv, "-csv"),
    "parquet": (export_parquet, "-parquet"),
}
"""Each format with what writes it, and how what it writes is called by default."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Which run, in which format, to where."""
    parser.add_argument("run", help="id, its beginning or ending, a path, or `latest`")
    parser.add_argument("--to", default="perfetto", metavar="FORMAT", help=f"one of {', '.join(EXPORTS)}")
    parser.add_argument(
        "--out", type=filled, metavar="PATH", help="the file, or the folder for several; by default named after the run"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument(
        "--store", type=filled, metavar="FOLDER", help="a folder of runs; by default $WORKBENCH_HOME/runs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the run and say where it is."""
    if arguments.to not in EXPORTS:
        raise UsageError(f"there is no format {arguments.to!r}: {nearest(arguments.to, EXPORTS)}")
    opened = Store(arguments.store).open(arguments.run)
    write, suffix = EXPORTS[arguments.to]
    path = Path(arguments.out or f"{opened.id}{suffix}")
    write(opened, path, overwrite=arguments.overwrite)
    if arguments.json:
        print_line({"run": opened.id, "format": arguments.to, "path": str(path)})
    else:
        say(f"wrote {path}" + (f" ({format_bytes(path.stat().st_size)})" if path.is_file() else ""))
    return 0
