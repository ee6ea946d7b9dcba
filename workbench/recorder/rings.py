"""The rings of recorded processes as the scribe reads them: events as arrays.

What the words mean is said in kernels/spool.h, which this mirrors.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workbench.errors import RunError
from workbench.recorder.native import library

Records = npt.NDArray[np.void]

RECORD = np.dtype(
    [
        ("time_ns", "u8"),
        ("address", "u8"),
        ("bytes", "u8"),
        ("asked", "u8"),
        ("stream", "u8"),
        ("owner", "u4"),
        ("stack", "u4"),
        ("thread", "u4"),
        ("tag", "u2"),
        ("device", "i2"),
        ("layer", "u1"),
        ("tier", "u1"),
        ("flags", "u1"),
        ("kind", "u1"),
        ("waited_us", "u4"),
    ]
)
"""One event, as wb_record lays it out."""

_MAGIC = 0x31474E4952425721
_HEADER = 4096  # bytes before the records of a ring
_RECORDS = 1 << 16
_WORDS = 8  # of 8 bytes that a ring's header has in use


def write(records: Records) -> None:
    """Append records, which say everything about themselves, to this process's own ring, in their order."""
    whole = np.ascontiguousarray(records, RECORD)
    library().wb_write_many(whole.ctypes.data, len(whole))


def rings(folder: Path) -> list[Path]:
    """The rings in a folder, in the order in which their processes began: their names are a process and its time."""
    return sorted(folder.glob("*.ring"), key=lambda path: int(path.stem.rpartition("-")[2]))


class Ring:
    """The ring of one process, as the scribe reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = library()
        size = _HEADER + _RECORDS * RECORD.itemsize
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size != size:
                raise RunError(f"{path} is not a ring of this version of the workbench")
            self._memory = mmap.mmap(file.fileno(), size)
        self._header: npt.NDArray[np.uint64] = np.frombuffer(self._memory, np.uint64, _WORDS)
        if self._header[0] != _MAGIC:
            raise RunError(f"{path} is not a ring of this version of the workbench")
        self.pid, self.parent = (int(number) for number in np.frombuffer(self._memory, np.uint32, 4)[2:])
        self.pid_namespace = int(self._header[7])
        self.threshold = int(self._header[5])

    @property
    def head(self) -> int:
        """How many slots writers have claimed."""
        return int(self._header[2])

    @property
    def tail(self) -> int:
        """How many slots were given back to the writers."""
        return int(self._header[3])

    @property
    def filled(self) -> float:
        """The part of the slots that waits to be drained."""
        return (self.head - self.tail) / _RECORDS

    @property
    def lost(self) -> int:
        """How many events the process dropped."""
        return int(self._header[4])

    def drain(self, most: int, skip: bool = False) -> Records:
        """Take up to `most` records; `skip` steps over those whose writer died before they were whole."""
        out: Records = np.empty(min(most, self.head - self.tail), RECORD)
        taken = self._library.wb_drain(self._header.ctypes.data, out.ctypes.data, len(out), skip)
        return out[:taken]

    def close(self) -> None:
        """Let go of the ring and delete the process's files; the process, if it goes on, waits for nobody."""
        self._header[6] = 1
        self._header = np.zeros(_WORDS, np.uint64)
        self._memory.close()
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".names").unlink(missing_ok=True)
