"""`workbench lab [FOLDER]`: JupyterLab on the tour, in a folder with copies of the notebooks."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from workbench.cli.output import print_json
from workbench.errors import UsageError

FOLDER = "workbench-notebooks"
TOUR = "/lab/tree/tour.ipynb"


def configure(parser: argparse.ArgumentParser) -> None:
    """Where to, and what JupyterLab is told."""
    parser.add_argument("folder", nargs="?", default=FOLDER, help=f"where the copies go; by default {FOLDER}")
    parser.add_argument("--port", type=int, help="of JupyterLab")
    parser.add_argument("--no-browser", action="store_true", help="say the address only")


def run(arguments: argparse.Namespace) -> int:
    """Copy the notebooks, and become JupyterLab; with --json say only what it would be started with."""
    from workbench.report.notebooks import copy_to

    if not importlib.util.find_spec("jupyterlab"):
        raise UsageError("JupyterLab is not installed: pip install memory-workbench[notebook]")
    folder = Path(arguments.folder).absolute()
    for kept in copy_to(folder):
        print(f"workbench: {kept} is your own and stays; remove it to have it anew", file=sys.stderr)
    command = _command(arguments, folder)
    if arguments.json:
        print_json({"folder": str(folder), "command": command})
    else:
        os.execv(command[0], command)  # Ctrl-C and the exit code are JupyterLab's own
    return 0


def _command(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """JupyterLab by the Python that is running, which may not be the one on the PATH."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    command += [f"--LabApp.default_url={TOUR}"]  # also in the address that it says where there is no browser
    command += [f"--port={arguments.port}"] if arguments.port else []
    command += ["--no-browser"] if arguments.no_browser else []
    return command + (["--allow-root"] if os.geteuid() == 0 else [])
