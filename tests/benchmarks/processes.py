"""Programs that are measured run in processes of their own and say what they found as lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
GPU_PROGRAMS = Path(__file__).parents[1] / "gpu" / "programs"
PYTHON = sys.executable
IMPORTING = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])}
"""What a program that imports modules of the tests needs."""
QUIET = 0.03  # of the machine: as much may others take while we measure
TRIES = 3
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


def gpu_program(name: str, *arguments: object) -> list[str]:
    """The command line of one of our programs for CUDA hosts."""
    return [PYTHON, str(GPU_PROGRAMS / name), *map(str, arguments)]


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


def found_quietly(command: Sequence[str], **environment: str) -> Document:
    """The same, again where others took the machine meanwhile; `others` is their share of it in the quietest try."""
    tries: list[Document] = []
    while len(tries) < TRIES and not any(each["others"] <= QUIET for each in tries):
        before = _work()
        document = found(command, **environment)
        ours, everybody, elapsed = (after - early for after, early in zip(_work(), before, strict=True))
        tries.append(document | {"others": max(0.0, everybody - ours) / (elapsed * (os.cpu_count() or 1))})
    return min(tries, key=lambda each: float(each["others"]))


def _work() -> tuple[float, float, float]:
    """Processor seconds of our programs that have ended, and of all that runs here; the time."""
    times = os.times()
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    return times.children_user + times.children_system, (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK"), time.time()


class OnDemand:
    """A program that answers line by line once it has said `ready`."""

    def __init__(self, command: Sequence[str], ready: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        self._wait_for(ready)

    def ask(self, line: str, answer: str) -> str:
        """Gives the rest of the line that begins with `answer`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._wait_for(answer)

    def _wait_for(self, beginning: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(beginning):
                return line.removeprefix(beginning)
        raise SystemExit("a program ended before its time: see its messages above")

    def end(self) -> None:
        """Ask nothing more."""
        self._process.communicate()
