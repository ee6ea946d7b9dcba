"""Any program, recorded from its start to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from workbench.errors import CommandError, UsageError
from workbench.launch.endings import ending
from workbench.launch.processes import LOOKS_EVERY_S, recorded_processes
from workbench.launch.recording import Scribing, create
from workbench.launch.termination import HeldBack, Terminated, exit_code
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
    raises_interrupts: bool = False,
) -> Run:
    """Runs any program and gives back the recorded run; its output goes where this process's goes.

    What it started and goes on after its end is not recorded from there on, which the run says.
    Where the program can not be started there is no run, and a `CommandError`.
    A Ctrl-C is the program's to answer. With `raises_interrupts`, for who runs it to find something out, none comes to
    the program: it is ended with all of its group, and the Ctrl-C is raised again when the run is sealed.
    """
    if not command:
        raise UsageError("there is no program to record: give one after `--`")
    interrupt: KeyboardInterrupt | None = None
    with HeldBack() as held:
        scribing = Scribing(create(name or Path(_main_part(command)).stem, store, command=list(command)))
        program = _start(command, scribing, settings or Settings(), raises_interrupts)
        error: str | None
        try:
            code = _wait(program, held, raises_interrupts)
            status, error = ending(code)
        except KeyboardInterrupt as end:
            interrupt = end
            _end(program, held, raises_interrupts)
            status, code = manifests.INCOMPLETE, exit_code(end)
            error = f"the recording and its program were {str(end) or 'interrupted'}"
        if others := _going_on(scribing.folder):
            scribing.limit(PROCESSES, f"{', '.join(others)} went on past the program's end, not recorded from there on")
        run = scribing.finish(status, 128 - code if code < 0 else code, error)
        if interrupt and raises_interrupts:
            interrupt.add_note(f"the run is kept: {run.folder}")
            raise interrupt
    return run


def _start(
    command: Sequence[str], scribing: Scribing, settings: Settings, leads_group: bool
) -> subprocess.Popen[bytes]:
    environment = os.environ | settings.environment(scribing.folder)
    try:
        return subprocess.Popen(command, env=environment, start_new_session=leads_group)
    except OSError as failure:
        scribing.discard()
        code = NOT_FOUND if isinstance(failure, FileNotFoundError) else NOT_EXECUTABLE
        raise CommandError(f"{command[0]} can not be started: {failure.strerror}", code) from None


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


def _wait(program: subprocess.Popen[bytes], held: HeldBack, raises_interrupts: bool) -> int:
    """Wait for the program; a Ctrl-C is raised, or else the program's to answer, and a second one ends it."""
    for stop in (None, program.terminate, program.kill):
        try:
            with held.let_through():
                if stop:
                    stop()
                program.wait()
            break
        except KeyboardInterrupt as end:
            if raises_interrupts or isinstance(end, Terminated):
                raise
    code = program.wait()
    if raises_interrupts and code == -signal.SIGINT:  # somebody's to it alone: as a shell, take it for one's own
        raise KeyboardInterrupt
    return code


def _end(program: subprocess.Popen[bytes], held: HeldBack, leads_group: bool) -> None:
    """End the program, and what it leads: they are asked to, then killed; a Ctrl-C kills them at once."""

    def send(sign: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if leads_group:
                os.killpg(program.pid, sign)
            else:
                program.send_signal(sign)

    send(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt), held.let_through():
        program.wait(ENDS_WITHIN_S)
    send(signal.SIGKILL)
    program.wait()
