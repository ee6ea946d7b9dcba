"""Process ids across namespaces: a recorded process says what it is called where it lives, which may not be here."""

from __future__ import annotations

import os
from contextlib import suppress

NOBODY = 1 << 22  # from here on no process is numbered


def number_here(pid: int, namespace: int) -> int:
    """What this process's namespace calls the process `pid` of another one; one that is gone, as it calls nobody."""
    here = _namespace("self")
    if not here or namespace in (0, here):
        return pid
    for found in filter(str.isdigit, os.listdir("/proc")):
        if _namespace(found) == namespace and _own_number(found) == pid:
            return int(found)
    return NOBODY + pid


def _namespace(process: str) -> int:
    """The inode of a process's namespace of ids; 0: it is gone, or another user's."""
    try:
        return os.stat(f"/proc/{process}/ns/pid").st_ino
    except OSError:
        return 0


def _own_number(process: str) -> int | None:
    """What a process is called where it lives."""
    with suppress(OSError), open(f"/proc/{process}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return None
