"""Any program, recorded from its start to its end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from workbench.errors import CommandError, UsageError
from workbench.launch.endings import ending
from workbench.launch.processes import LOOKS_EVERY_S, recorded_processes
from workbench.launch.recording import Scribing, create
from workbench.launch.termination import Terminated
from workbench.recorder.settings import Settings
from workbench.run import manifest as manifests
from workbench.run.run import Run
from workbench.run.store import Store

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # the exit codes that shells have for it
PROCESSES = "processes"  # in a manifest's `sources`
END_LATE_S = 0.5  # what goes with the program, such as a helper that waits for its end
ENDS_WITHIN_S = 5.0  # a program that was asked to; then it is killed


def record_program(
    command: Sequence[str],
    *,
    name: str | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
) -> Run:
    """Runs any program and gives back the recorded run; its output goes where this process's goes.

    What it started and goes on after its end is not recorded from there on, which the run says.
    Where the program can not be started there is no run, and a `CommandError`.
    """
    if not command:
        raise UsageError("there is no program to record: give one after `--`")
    scribing = Scribing(create(name or Path(_main_part(command)).stem, store, command=list(command)))
    environment = os.environ | (settings or Settings()).environment(scribing.folder)
    try:
        program = subprocess.Popen(command, env=environment)
    except OSError as failure:
        scribing.discard()
        code = NOT_FOUND if isinstance(failure, FileNotFoundError) else NOT_EXECUTABLE
        raise CommandError(f"{command[0]} can not be started: {failure.strerror}", code) from None
    error: str | None
    try:
        code = _wait(program)
        status, error = ending(code)
    except Terminated as end:
        _end(program)
        status, code, error = manifests.INCOMPLETE, end.exit_code, f"the recording and its program were {end}"
    if others := _going_on(scribing.folder):
        scribing.limit(PROCESSES, f"{', '.join(others)} went on past the program's end, not recorded from there on")
    return scribing.finish(status, 128 - code if code < 0 else code, error)


def _going_on(folder: Path) -> list[str]:
    """The processes that the program started and that do not end with it, as `name (pid)`."""
    deadline = time.monotonic() + END_LATE_S
    while (found := recorded_processes(folder)) and time.monotonic() < deadline:
        time.sleep(LOOKS_EVERY_S)
    return found


def _main_part(command: Sequence[str]) -> str:
    """The part of a command that names the run: the script of a Python, else the program."""
    is_script = len(command) > 1 and Path(command[0]).name.startswith("python") and not command[1].startswith("-")
    return command[1 if is_script else 0]


def _wait(program: subprocess.Popen[bytes]) -> int:
    """Wait for the program; a Ctrl-C is the program's to answer, a second one ends it."""
    for stop in (None, program.terminate, program.kill):
        try:
            if stop:
                stop()
            return program.wait()
        except Terminated:
            raise
        except KeyboardInterrupt:
            continue
    return program.wait()


def _end(program: subprocess.Popen[bytes]) -> None:
    """End the program: it is asked to, then killed; a Ctrl-C kills it at once."""
    program.terminate()
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        program.wait(ENDS_WITHIN_S)
    program.kill()
    program.wait()
