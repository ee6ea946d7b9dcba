"""The parent's side of a recording: makes the run, starts its scribe, ends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.recorder import outside, recorder
from workbench.recorder.recorder import Recorder
from workbench.recorder.settings import SPOOL, Settings
from workbench.recorder.wire import Line
from workbench.run import manifest as manifests
from workbench.run.folder import LOCK, is_locked, unwritable
from workbench.run.manifest import Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run
from workbench.run.store import Store


def create(name: str, store: Store | None = None, **known: Any) -> Path:
    """Make the folder of a run that is about to be recorded."""
    folder = (store or Store()).create(Manifest.new(name, VERSION, **known))
    try:
        (folder / SPOOL).mkdir(mode=0o700)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise unwritable(folder, error) from None
    return folder


def start_scribe(folder: Path) -> subprocess.Popen[str]:
    """Start the process that writes the run in `folder`, or remove it; the process listens when this returns."""
    environment = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "WORKBENCH_RUN")}
    scribe = subprocess.Popen(
        [sys.executable, "-m", "workbench.recorder.scribe", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        text=True,
    )
    assert scribe.stdout is not None
    with scribe.stdout:
        said = scribe.stdout.readline().strip()
    if said != "ready":
        scribe.wait()
        if not is_locked(folder):  # else it is another recording's
            shutil.rmtree(folder, ignore_errors=True)
        raise RunError(said.removeprefix("error ") or f"the scribe of {folder} did not start: see its message above")
    return scribe


class Scribing:
    """A run that is being written, seen from the process that asked for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._scribe = start_scribe(folder)
        self._line = Line(folder)

    def finish(self, status: str, exit_code: int | None = None, error: str | None = None) -> Run:
        """End the recording; the run is sealed when this returns. Where it can not be, the run is incomplete."""
        failure = None
        try:
            self._line.ask("finish", status=status, exit_code=exit_code, error=error)
        except RunError as refused:
            failure = str(refused)
        finally:
            self._line.close()
            self._scribe.wait()
        return self._without_scribe(exit_code, failure) if failure else Run.open(self.folder)

    def limit(self, source: str, what: str) -> None:
        """Say what a source could not see."""
        with suppress(RunError):  # the scribe is gone, which `finish` tells
            self._line.tell("limits", sources={source: [what]})

    def discard(self) -> None:
        """End the recording of what never began: nothing of it stays."""
        self._line.close()  # upon which the scribe ends
        self._scribe.wait()
        shutil.rmtree(self.folder)

    def _without_scribe(self, exit_code: int | None, failure: str) -> Run:
        outside.remove(self.folder)
        shutil.rmtree(self.folder / SPOOL, ignore_errors=True)
        (self.folder / LOCK).unlink(missing_ok=True)
        run = Run.open(self.folder)
        run.manifest.status = manifests.INCOMPLETE
        run.manifest.exit_code = exit_code
        run.manifest.error = Manifest.read(self.folder).error or {"what": failure}
        with suppress(OSError):  # the disk may be what failed
            run.manifest.write(self.folder)
        return run


class Recording:
    """A recording of this process, while it goes on; `run` is there when it has ended."""

    def __init__(self, folder: Path, probe: Recorder) -> None:
        self.folder = folder
        self.phase = probe.phase
        self.tag = probe.tag
        self.tokens = probe.tokens
        self.run: Run | None = None


@contextmanager
def recording(name: str, store: Store | None = None, settings: Settings | None = None) -> Iterator[Recording]:
    """Record the code of the block, in this process; `with workbench.recording("name") as rec: …`.

    What is held since before is an owner of its own, `before the run`. Sources that can not start so late say so in the
    run's manifest.
    """
    settings = settings or Settings()
    recorder.refuse_twice()
    folder = create(name, store)
    scribe = start_scribe(folder)
    probe = recorder.use(lambda: Recorder(folder, settings, late=True))
    assert probe is not None
    going_on = Recording(folder, probe)
    try:
        with probe.phase("recording"):
            yield going_on
    except BaseException as error:
        recorder.use(None)
        probe.finish(manifests.FAILED, f"{type(error).__name__}: {error}")
        raise
    else:
        recorder.use(None)
        probe.finish(manifests.COMPLETE)
    finally:
        scribe.wait()
        going_on.run = Run.open(folder)
