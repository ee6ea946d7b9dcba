"""Programs that are measured run in processes of their own and say what they found as lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
PYTHON = sys.executable
Document = dict[str, Any]


def workbench(*arguments: str) -> list[str]:
    """A command line of the workbench."""
    return [PYTHON, "-m", "workbench", *arguments]


def recorded(command: Sequence[str], store: Path, *options: str) -> list[str]:
    """The command line that records a program."""
    return [*workbench("record", "--out", str(store), *options), "--", *command]


def program(name: str, *arguments: object) -> list[str]:
    """The command line of one of our programs."""
    return [PYTHON, str(PROGRAMS / name), *map(str, arguments)]


def documents(command: Sequence[str], **environment: str) -> list[Document]:
    """Run a command; returns the lines of JSON that it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def found(command: Sequence[str], **environment: str) -> Document:
    """Run a command; returns the first line of JSON: the program's own, before the one of what records it."""
    return documents(command, **environment)[0]
