"""The Python face of the native recorder in the process that it records: its spool and what it has defined.

What the words mean is said in kernels/spool.h, which this mirrors. Recorded programs load this, so it loads little.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from workbench.errors import RunError, WorkbenchError
from workbench.kernels import library_path
from workbench.recorder.probe import Copy
from workbench.recorder.settings import STACKS

ALLOC, FREE, MEASURE, COPY, REFUSED = 1, 2, 3, 4, 5
DRIVER, ALLOCATOR, HOST = 1, 2, 3
GPU, PINNED, PAGEABLE = 1, 2, 3
FILE, SHARED, RESERVED, MOVED, RANGE = 1, 2, 4, 8, 16
REGISTERED = 1
NAME, FRAME, STACK = 1, 2, 3
DEEPEST = 64  # innermost frames kept of a stack

_DEFINITION = struct.Struct("<III")
_COPY = struct.Struct("<QQQQQIIIHhBBBBI")  # a record; see WB_COPY
_LONGEST_TIME = (1 << 32) - 1  # ns of a call, us of a wait
_LONGEST = 1 << 16  # bytes; no definition is as long


@functools.cache
def library() -> ctypes.CDLL:
    """The native recorder: the copy that was preloaded, where one was."""
    loaded = ctypes.CDLL(str(library_path()))
    pointer, u64 = ctypes.c_void_p, ctypes.c_uint64
    signatures: dict[str, tuple[object, list[object]]] = {
        "wb_open": (ctypes.c_int, [ctypes.c_char_p, u64]),
        "wb_close": (None, []),
        "wb_folder": (ctypes.c_char_p, []),
        "wb_base": (ctypes.c_char_p, []),
        "wb_write_many": (None, [pointer, ctypes.c_size_t]),
        "wb_name": (ctypes.c_uint32, [ctypes.c_char_p]),
        "wb_tag_place": (pointer, []),
        "wb_telling_place": (pointer, []),
        "wb_python_stack": (ctypes.c_uint32, []),
        "wb_set_stacks": (None, [ctypes.c_int]),
        "wb_record_from": (ctypes.c_size_t, [ctypes.c_size_t]),
        "wb_torch_from": (None, [ctypes.c_size_t]),
        "wb_host_on": (None, [ctypes.c_int]),
        "wb_driver_on": (None, [ctypes.c_int]),
        "wb_torch_on": (None, [ctypes.c_int]),
        "wb_driver_copies": (None, [ctypes.c_int]),
        "wb_driver_measures": (ctypes.c_int, []),
        "wb_device_number": (ctypes.c_int16, [ctypes.c_int]),
        "wb_copies_init": (None, [pointer, pointer]),
        "wb_copies_flush": (None, []),
        "wb_copies_start_flusher": (ctypes.c_int, [ctypes.c_uint32]),
        "wb_copies_stop_flusher": (None, []),
        "wb_lost": (u64, []),
        "wb_failure": (ctypes.c_int, []),
        "wb_preloaded": (ctypes.c_int, []),
        "wb_allocator": (ctypes.c_char_p, []),
        "wb_patch": (ctypes.c_size_t, []),
        "wb_unpatch": (ctypes.c_size_t, []),
        "wb_drain": (ctypes.c_size_t, [pointer, pointer, ctypes.c_size_t, ctypes.c_int]),
        "wb_live_new": (pointer, []),
        "wb_live_delete": (None, [pointer]),
        "wb_live_rows": (ctypes.c_size_t, [pointer, pointer]),
        "wb_live_apply": (ctypes.c_size_t, [pointer, pointer, ctypes.c_size_t, pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def now() -> int:
    """The time on the one clock of a run, in nanoseconds."""
    return time.monotonic_ns()


class _Thread(threading.local):
    """Places of the calling thread: written to directly, since an engine does so a hundred times a token."""

    def __init__(self) -> None:
        self.tag = ctypes.c_uint16.from_address(library().wb_tag_place())


class Tagged:
    """A block in which the thread's memory is for one thing."""

    __slots__ = ("_name", "_outer", "_place", "_thread")

    def __init__(self, thread: _Thread, name: int) -> None:
        self._thread = thread
        self._name = name

    def __enter__(self) -> None:
        self._place = self._thread.tag
        self._outer = self._place.value
        self._place.value = self._name

    def __exit__(self, *_: object) -> None:
        self._place.value = self._outer


class Spool:
    """Where this process hands its events to the scribe. One a process, whatever the number of these objects."""

    def __init__(self) -> None:
        self._library = library()
        self._names: dict[str, int] = {}
        self._thread = _Thread()

    def open(self, folder: Path, threshold: int) -> None:
        """Record into `folder`; where a preloaded library has begun to, it goes on with its own threshold."""
        into = folder.resolve()
        if self.folder == into:
            return
        status = self._library.wb_open(os.fsencode(into), threshold)
        if self.folder not in (into, None):
            raise WorkbenchError(f"this process is being recorded into {self.folder}: end that recording first")
        if status:
            raise WorkbenchError(f"cannot record into {folder}: {os.strerror(-status)}")

    def close(self) -> None:
        """Record nothing any more; what was recorded stays for the scribe."""
        self._library.wb_close()

    @property
    def folder(self) -> Path | None:
        """Where this process records into, if it does."""
        folder = self._library.wb_folder()
        return Path(os.fsdecode(folder)) if folder else None

    def name(self, text: str) -> int:
        """The id of a name in the records of this process."""
        known = self._names.get(text)
        if known is None:
            known = self._names[text] = int(self._library.wb_name(text.replace("\0", " ").encode()))
        return known

    def tagged(self, text: str) -> Tagged:
        """A block in which what the calling thread allocates is for this; after it, what held before holds again."""
        return Tagged(self._thread, self.name(text))

    @property
    def telling(self) -> int:
        """Where a thread's byte is, by a C function: while it is 1, no hook records its copies; `write_copies` will."""
        return ctypes.cast(self._library.wb_telling_place, ctypes.c_void_p).value or 0

    def write_copies(self, copies: Sequence[Copy]) -> None:
        """Record copies of which everything is known."""
        number = self._library.wb_device_number
        rows = b"".join(
            _COPY.pack(
                *(copy.handed_ns, copy.ended_ns, copy.bytes, copy.began_ns, copy.stream, 0, 0),
                *(min(copy.call_ns or 1, _LONGEST_TIME), 0, number(copy.device), DRIVER, GPU, copy.direction, COPY),
                min((copy.handed_ns - copy.submitted_ns) // 1000, _LONGEST_TIME),
            )
            for copy in copies
        )
        self._library.wb_write_many(rows, len(copies))

    def python_stack(self) -> int:
        """The id of the calling thread's Python stack; 0 where it cannot be read."""
        return int(self._library.wb_python_stack())

    def keep_stacks(self, mode: str) -> list[str]:
        """Choose of which events the stack is kept: none, large or all. Off, and said so, where it would be wrong."""
        self._library.wb_set_stacks(STACKS.index(mode))
        wrong = None if mode == "none" else _what_is_wrong_with_stacks(self)
        if wrong is None:
            return []
        self._library.wb_set_stacks(0)
        return [f"no Python stacks: {wrong}"]

    def lost(self) -> int:
        """How many events of this process are in no ring."""
        return int(self._library.wb_lost())

    def error(self) -> int:
        """The number of the error that stopped the recording in this process; 0: nothing did."""
        return int(self._library.wb_failure())

    def failure(self) -> str | None:
        """What stopped the recording in this process, if something did."""
        return os.strerror(self.error()) if self.error() else None

    def definitions(self) -> list[Definition]:
        """What this process has defined so far."""
        return Names(Path(os.fsdecode(self._library.wb_base()) + ".names")).read_new()


def _what_is_wrong_with_stacks(spool: Spool) -> str | None:
    """Compare the native walker with Python's own frames."""
    # On one line, since a frame's own line is part of the comparison.
    stack, frame, line = spool.python_stack(), sys._getframe(), sys._getframe().f_lineno
    if not stack:
        return spool.failure() or f"this build of Python {sys.version.split()[0]} is not one whose frames can be read"
    definitions = spool.definitions()
    frames = {each.id: each.text for each in definitions if each.kind == FRAME}
    kept = next(each.numbers for each in definitions if each.kind == STACK and each.id == stack)
    # The innermost one is the method that asked.
    seen = [frames[number] for number in kept][1:]
    return None if seen == _frames_from(frame, line)[: DEEPEST - 1] else "what was read differs from Python's frames"


def _frames_from(frame: FrameType | None, line: int | None) -> list[str]:
    texts = []
    while frame:
        code = frame.f_code
        texts.append(f"{code.co_filename}\0{code.co_qualname}\0{frame.f_lineno if line is None else line}")
        frame, line = frame.f_back, None
    return texts


_patches = 0


def patch() -> None:
    """Let calls of the loaded libraries reach the hooks, where the library was not preloaded."""
    global _patches
    _patches += 1
    library().wb_patch()


def unpatch() -> None:
    """Undo one `patch`; the last one puts the libraries back as they were."""
    global _patches
    _patches -= 1
    if not _patches:
        library().wb_unpatch()


@dataclass(frozen=True)
class Definition:
    """What an id in a process's records stands for."""

    kind: int
    id: int
    data: bytes

    @property
    def text(self) -> str:
        """A name, or a frame as "file\\0function\\0line"."""
        return self.data.decode(errors="replace")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The ids of a stack's frames, innermost first."""
        return struct.unpack(f"<{len(self.data) // 4}I", self.data)


class Names:
    """The definitions of one process, as they are appended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes

    def read_new(self) -> list[Definition]:
        """What was defined since the last call; an incomplete last definition stays for the next one."""
        try:
            if os.stat(self._path).st_size == self._read:
                return []
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:
            return []
        found, at = [], 0
        while at + _DEFINITION.size <= len(data):
            kind, number, length = _DEFINITION.unpack_from(data, at)
            if kind not in (NAME, FRAME, STACK) or length > _LONGEST:
                raise RunError(f"{self._path} is damaged at byte {self._read + at}")
            start, end = at + _DEFINITION.size, at + _DEFINITION.size + length
            if end > len(data):
                break
            found.append(Definition(kind, number, data[start:end]))
            at = end
        self._read += at
        return found
