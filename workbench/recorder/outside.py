"""What an engine keeps outside its run: its temporary files and its shared memory. They go with it, however it ends.

A killed process removes nothing. So what it would leave is listed in the run's spool, and the scribe, which outlives
the engine and whoever wanted it, removes what is listed.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from workbench.recorder.settings import SPOOL

_LIST = "outside"  # a file in the spool, a pattern of paths a line
_SHARED = Path("/dev/shm")
_PYTHONS = "psm_"  # how the names of Python's shared memory begin
_NOT_IN_NAMES = r'[\\/:*?"<>|]'  # by torch


def environment(folder: Path) -> dict[str, str]:
    """Makes a folder for the temporary files of the engine that is recorded into `folder`; gives how it is told."""
    temporary = tempfile.mkdtemp(prefix="workbench-")
    _claim(folder / SPOOL, glob.escape(temporary))
    return {"TMPDIR": temporary, "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", _compiled())}


def _compiled() -> str:
    """Where torch keeps what it has compiled unless told otherwise, which is no engine's alone."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):
        user = f"uid_{os.getuid()}"
    return f"{tempfile.gettempdir()}/torchinductor_{re.sub(_NOT_IN_NAMES, '_', user)}"


def claim_shared_memory(name: str) -> None:
    """Lists shared memory whose name begins so, whether it is there yet or not."""
    if name and (spool := os.environ.get("WORKBENCH_SPOOL")):
        _claim(Path(spool), f"{_SHARED}/{glob.escape(name)}*")


def claim_mapped_memory() -> None:
    """Lists Python's shared memory that this process uses by now: Python chooses its names."""
    words = set(Path("/proc/self/maps").read_text().split())
    for word in words:
        if word.startswith(f"{_SHARED}/{_PYTHONS}"):
            claim_shared_memory(Path(word).name)


def remove(folder: Path) -> None:
    """Removes what was listed for the run in `folder`."""
    try:
        patterns = (folder / SPOOL / _LIST).read_text().splitlines()
    except OSError:
        return
    for path in (Path(found) for pattern in patterns for found in glob.glob(pattern)):
        with suppress(OSError):  # somebody else's, which stays; the others go
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _claim(spool: Path, pattern: str) -> None:
    with suppress(OSError), (spool / _LIST).open("a") as file:
        file.write(f"{pattern}\n")
