"""Copies handed on to the CUDA driver, each with what it waits for and its events in one call: kernels/streams."""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from workbench.errors import WorkbenchError

DRIVER = "libcuda.so.1"
_GIVEN = struct.Struct("@3P5Q")  # what submit.c's structure has between the times and the events
_GIVEN_AT, _AWAITED = 16, 10  # after two times, in bytes; after those and what is given, in words
_FEW = 4  # events that are awaited; for more of them there will be more room


class Submission:
    """What one thread hands on to the driver, written down in one place again and again.

    A foreign call costs by its arguments: this one has one.
    """

    __slots__ = ("_address", "_submit", "_words")

    def __init__(self, driver: str = DRIVER) -> None:
        self._submit = _library(driver).wb_submit
        self._make_room(_FEW)

    def hand_on(
        self,
        stream: int,
        waits: Sequence[int],  # events
        begin: int,  # an event; 0: none
        target: int,
        source: int,
        size: int,
        direction: int,
        end: int,  # an event
    ) -> int:
        """Hands a copy on; gives the driver's status. After one that is not 0 nothing more of it was handed on."""
        if waits:
            self._write(waits)
        _GIVEN.pack_into(self._words, _GIVEN_AT, stream, begin, end, target, source, size, direction, len(waits))
        status: int = self._submit(self._address)
        return status

    def times(self) -> tuple[int, int]:
        """Gives when the last copy was handed on, on CLOCK_MONOTONIC, and how long the driver took, in ns."""
        words = self._words
        return words[0], words[1]

    def _write(self, waits: Sequence[int]) -> None:
        if _AWAITED + len(waits) > len(self._words):
            self._make_room(len(waits))
        at = _AWAITED
        for event in waits:
            self._words[at] = event
            at += 1

    def _make_room(self, waits: int) -> None:
        self._words = array("Q", bytes(8 * (_AWAITED + waits)))
        self._address = self._words.buffer_info()[0]


@cache
def _library(driver: str) -> ctypes.CDLL:
    """The library, with the driver open: a process has one."""
    built = Path(__file__).resolve().parent / "_streams.so"
    try:
        library = ctypes.CDLL(str(built))
    except OSError as error:
        raise WorkbenchError(f"streams need their native part, install the package with gcc at hand: {error}") from None
    library.wb_submission_open.argtypes = [ctypes.c_char_p]
    if status := library.wb_submission_open(driver.encode()):
        raise WorkbenchError(f"{driver} is no CUDA driver that streams can use ({status})")
    library.wb_submit.argtypes = [ctypes.c_void_p]
    return library
