"""Runs that get a process of their own: an engine under a config, or any program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.config import EngineConfig, Workload
from workbench.config.models import resolve
from workbench.engines import require
from workbench.errors import UsageError
from workbench.launch.recording import Scribing, create
from workbench.record.settings import Settings
from workbench.run import manifest as manifests
from workbench.run.run import Run
from workbench.run.store import Store


def record(
    config: EngineConfig,
    workload: Workload,
    *,
    name: str | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
) -> Run:
    """Run `workload` on the engine of `config`, in a fresh process, and give back the recorded run."""
    require(config.engine)
    resolve(config.model)  # fetched and converted before the run, not in it
    name = name or f"{config.engine}-{Path(config.model).name}"
    folder = create(name, store, config=config.to_dict(), workload=workload.to_dict())
    return _launch(folder, [sys.executable, "-m", "workbench.launch.worker", str(folder)], settings)


def record_program(
    command: Sequence[str],
    *,
    name: str | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
) -> Run:
    """Run any program and give back the recorded run; its output goes where this process's goes."""
    if not command:
        raise UsageError("there is no program to record: give one after `--`")
    folder = create(name or Path(_main_part(command)).stem, store, command=list(command))
    return _launch(folder, command, settings)


def _main_part(command: Sequence[str]) -> str:
    """The part of a command that names the run: the script of a Python, else the program."""
    is_script = len(command) > 1 and Path(command[0]).name.startswith("python") and not command[1].startswith("-")
    return command[1 if is_script else 0]


def _launch(folder: Path, command: Sequence[str], settings: Settings | None) -> Run:
    scribing = Scribing(folder)
    environment = os.environ | (settings or Settings()).environment(folder)
    try:
        program = subprocess.Popen(command, env=environment)
    except OSError as failure:
        what = f"{command[0]} can not be started: {failure.strerror}"
        scribing.finish(manifests.FAILED, 127, what)
        raise UsageError(what) from None
    code = _wait(program)
    status, error = _ending(code)
    return scribing.finish(status, 128 - code if code < 0 else code, error)


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


def _ending(code: int) -> tuple[str, str | None]:
    """The status and the error of a run whose program ended with `code`."""
    if code == 0:
        return manifests.COMPLETE, None
    if code > 0:
        return manifests.FAILED, f"the program ended with exit code {code}"
    hint = ": the host may have been out of memory" if -code == signal.SIGKILL else ""
    return manifests.INCOMPLETE, f"the program was killed by {signal.Signals(-code).name}{hint}"
