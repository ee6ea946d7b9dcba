"""The folder of a run: made for a new one, locked while it is written."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import RunError

LOCK = "lock"


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make the folder of a new run; it is removed again when what belongs into it can not be written."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise unwritable(folder, error) from None
        raise


def unwritable(folder: Path, error: OSError) -> RunError:
    """That a new run can not be written, and what to do."""
    return RunError(f"no run can be written in {folder.parent}: {error.strerror or error}; choose another --out")


def lock(folder: Path) -> int:
    """Hold the run's lock for as long as this process lives."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(f"{folder} is being written by another recording") from None
    return handle


def is_locked(folder: Path) -> bool:
    """Whether a scribe is writing the run in `folder` now."""
    try:
        if not (folder / LOCK).is_file():
            return False
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
