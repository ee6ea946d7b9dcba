"""Recordings that are cut short, by a disk or a signal, say so in one line and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workbench.run.store import Store

RECORD = (sys.executable, "-m", "workbench", "record", "--out")


@pytest.mark.parametrize("limit", [10, 1000])  # bytes a file: too few for the manifest, and for the scribe
def test_a_disk_that_is_full_at_the_start_is_told_in_one_line(store: Store, limit: int) -> None:
    command = ["prlimit", f"--fsize={limit}", *RECORD, str(store.folder), "--", "echo", "it ran"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    line = f"workbench: no run can be written in {store.folder}: File too large; choose another --out\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
    assert list(store.folder.iterdir()) == []
