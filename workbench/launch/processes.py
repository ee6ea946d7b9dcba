"""The processes of a recording: an engine's end together, and those of any other program are found by its run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

LOOKS_EVERY_S = 0.02


def end_group(leader: subprocess.Popen[bytes], within_s: float) -> int:
    """Ends a process and those that it started: asks whatever lives to end, then kills it. Gives its exit code."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if not _lives(leader):
            break
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, sign)
        deadline = time.monotonic() + within_s
        while _lives(leader) and time.monotonic() < deadline:
            time.sleep(LOOKS_EVERY_S)
    return leader.wait()


def _lives(leader: subprocess.Popen[bytes]) -> bool:
    """Whether any process of its group does; one that has ended and that nobody has waited for does not."""
    return leader.poll() is None or any(_is_of(leader.pid, stat) for stat in Path("/proc").glob("[0-9]*/stat"))


def _is_of(group: int, stat: Path) -> bool:
    with suppress(OSError):
        state, _, its_group, *_ = stat.read_text().rpartition(")")[2].split()
        return state not in "ZX" and int(its_group) == group
    return False


def recorded_processes(folder: Path) -> list[str]:
    """Gives the processes that live and were started to be recorded into the run in `folder`, as `name (pid)`."""
    found, mark = [], os.fsencode(f"WORKBENCH_RUN={folder.resolve()}")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
    return found
