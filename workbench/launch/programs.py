"""Any program, recorded from its start to its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import UsageError
from workbench.launch.endings import ending
from workbench.launch.recording import Scribing, create
from workbench.recorder.settings import Settings
from workbench.run import manifest as manifests
from workbench.run.run import Run
from workbench.run.store import Store


def record_program(
    command: Sequence[str],
    *,
    name: str | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
) -> Run:
    """Runs any program and gives back the recorded run; its output goes where this process's goes."""
    if not command:
        raise UsageError("there is no program to record: give one after `--`")
    scribing = Scribing(create(name or Path(_main_part(command)).stem, store, command=list(command)))
    environment = os.environ | (settings or Settings()).environment(scribing.folder)
    try:
        program = subprocess.Popen(command, env=environment)
    except OSError as failure:
        what = f"{command[0]} can not be started: {failure.strerror}"
        scribing.finish(manifests.FAILED, 127, what)
        raise UsageError(what) from None
    code = _wait(program)
    status, error = ending(code)
    return scribing.finish(status, 128 - code if code < 0 else code, error)


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
        except KeyboardInterrupt:
            continue
    return program.wait()
