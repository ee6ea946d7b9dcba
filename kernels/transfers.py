"""The native part of streams, whose sources are in kernels/streams: its calls, and what Python shares with it."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from workbench.errors import WorkbenchError

DRIVER = "libcuda.so.1"
RING, WORDS = 1 << 16, 4  # transfers, and words of each
PART = 1024  # of the ring's transfers, which room is made for at a time
NOT_READY, OVERLAPS = 600, 1 << 16
# Words of what is shared: those of a line of the cache that is written to all the time, whether the thread sleeps (in
# a line of its own), and the first of the ring.
TAKEN, UNDER_WAY, ON_DEVICE, FAILED, SLEEPS, FIRST = 0, 1, 2, 3, 8, 16
END = FIRST + RING * WORDS

_Pointer, _U64 = ctypes.c_void_p, ctypes.c_uint64
_OF_DONE = ("number", "stream", "submitted", "handed", "call", "began", "ended", "status")
DONE = np.dtype([(name, np.uint64) for name in _OF_DONE])


class Given(ctypes.Structure):
    """What streams are made of."""

    _fields_ = [
        ("compute", _Pointer),
        ("context", _Pointer),
        ("limit", _U64),
        ("depth", _U64),
        ("is_ordered", _U64),
        ("has_thread", _U64),
        ("telling", _Pointer),
    ]


class Transfers:
    """What has been submitted on one set of streams. All of it is one Python thread's. Statuses are CUresults."""

    def __init__(self, device: int, given: Given) -> None:
        self._library = library()
        status = ctypes.c_int()
        self._streams = self._library.wb_streams_open(device, ctypes.byref(given), ctypes.byref(status))
        self.status: int = status.value
        shared = self._library.wb_streams_shared(self._streams)
        self.shared = memoryview((_U64 * END).from_address(shared)).cast("B").cast("Q")

    def prepare(self, transfers: int, events: int) -> int:
        """Makes what so many need; gives a status."""
        status: int = self._library.wb_streams_prepare(self._streams, transfers, events)
        return status

    def go_on(self) -> None:
        """Has what was submitted handed on by the thread, which slept; where there is none, hands it on."""
        self._library.wb_streams_go_on(self._streams)

    def make_room(self) -> None:
        """Takes from a full ring what the thread has not yet."""
        self._library.wb_streams_drain(self._streams)

    def look(self, most: int) -> None:
        """Has up to `most` that are over taken in, and as many that were held handed on."""
        self._library.wb_streams_look(self._streams, most)

    def advance(self) -> None:
        """Waits for the device to get on, and takes in and hands on all that it can."""
        self._library.wb_streams_advance(self._streams)

    def begin_step(self, reads: array[int], writes: array[int]) -> int:
        """Has the compute wait for what it must; gives a status, NOT_READY where some of that is held.

        Of each block there are its address and its bytes.
        """
        (read, reads_count), (written, writes_count) = reads.buffer_info(), writes.buffer_info()
        begin = self._library.wb_streams_begin_step
        status: int = begin(self._streams, read, reads_count // 2, written, writes_count // 2)
        return status

    def end_step(self) -> int:
        """Has later transfers wait for the compute since the last step began, if none has ended it; gives a status."""
        status: int = self._library.wb_streams_end_step(self._streams)
        return status

    def collect(self) -> Iterator[tuple[int, ...]]:
        """Gives what is over, in the order of DONE; the same again until `collected` is called."""
        of = _Pointer()
        count = self._library.wb_streams_collect(self._streams, ctypes.byref(of))
        if not count:
            return iter(())
        rows = (ctypes.c_char * (count * DONE.itemsize)).from_address(of.value or 0)
        return iter(np.frombuffer(rows, DONE).tolist())

    def collected(self) -> None:
        """What `collect` gave has arrived."""
        self._library.wb_streams_collected(self._streams)

    def failure(self) -> int:
        """Gives what failed and is no transfer's, as a status, once."""
        status: int = self._library.wb_streams_failure(self._streams)
        return status

    def close(self) -> None:
        """Ends the thread, lets the device finish what it has, and destroys all."""
        self.shared = memoryview(bytes(8 * FIRST)).cast("Q")
        self._library.wb_streams_close(self._streams)


@cache
def library() -> ctypes.CDLL:
    """Gives the library."""
    built = Path(__file__).resolve().parent / "_streams.so"
    try:
        loaded = ctypes.CDLL(str(built))
    except OSError as error:
        raise WorkbenchError(f"streams need their native part, install the package with gcc at hand: {error}") from None
    size, span = ctypes.c_size_t, [_Pointer, ctypes.c_size_t]
    signatures: dict[str, tuple[object, list[object]]] = {
        "wb_device_open": (_Pointer, [ctypes.c_char_p, _Pointer]),
        "wb_streams_open": (_Pointer, [_Pointer, _Pointer, _Pointer]),
        "wb_streams_shared": (_Pointer, [_Pointer]),
        "wb_streams_prepare": (ctypes.c_int, [_Pointer, _U64, _U64]),
        "wb_streams_go_on": (None, [_Pointer]),
        "wb_streams_drain": (None, [_Pointer]),
        "wb_streams_look": (None, [_Pointer, _U64]),
        "wb_streams_advance": (None, [_Pointer]),
        "wb_streams_begin_step": (ctypes.c_int, [_Pointer, *span, *span]),
        "wb_streams_end_step": (ctypes.c_int, [_Pointer]),
        "wb_streams_collect": (size, [_Pointer, _Pointer]),
        "wb_streams_collected": (None, [_Pointer]),
        "wb_streams_failure": (ctypes.c_int, [_Pointer]),
        "wb_streams_close": (None, [_Pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


@cache
def device_of(driver: str = DRIVER) -> int:
    """Gives the address of a driver's functions; a process has one driver."""
    status = ctypes.c_int()
    device: int | None = library().wb_device_open(driver.encode(), ctypes.byref(status))
    if not device:
        raise WorkbenchError(f"{driver} is no CUDA driver that streams can use ({status.value})")
    return device
