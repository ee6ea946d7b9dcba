"""Plain data out of a pickle that a stranger made.

A pickle is a program. Before Python's unpickler sees a byte of it, its instructions are checked against the few that
PyTorch needs to write a snapshot: dicts, lists, pairs of integers, text and numbers. None of them can name, call or
build anything else, and none can ask for more memory than a fixed multiple of the file's size.
"""

from __future__ import annotations

import gc
import io
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pickletools import opcodes

from workbench.errors import WorkbenchError

_FOREIGN = {
    b"\x1f\x8b": "a gzip file: unpack it with gunzip",
    b"PK\x03\x04": "a zip file, as torch.save writes: unpack it, or dump the snapshot with pickle",
    b"BZh": "a bzip2 file: unpack it with bunzip2",
    b"\xfd7zXZ": "an xz file: unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "a zstandard file: unpack it with unzstd",
    b"PAR1": "a Parquet file, not a pickle",
    b"{": "JSON, not a pickle",
}

_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,  # also text that is not UTF-8
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
)

_SHORT = 16
"""Texts up to this many bytes are stepped over inside the regular expression; longer ones are rarer."""
_AT_ONCE = 10000
"""Instructions that one match steps over: for each the expression remembers a way back. Not `*+`, which needs none: up
to Python 3.11.4 it also steps over a part of what does not match."""


def load_plain(data: bytes, name: str) -> object:
    """The dicts, lists, pairs, texts and numbers in a pickle; `name` is the file's, for the message of a refusal."""
    for magic, what in _FOREIGN.items():
        if data.startswith(magic):
            raise WorkbenchError(f"{name} is {what}")
    if not data:
        raise WorkbenchError(f"{name} is empty: expected a pickled snapshot")
    _check(data, name)
    with collector_paused():
        try:
            return _PlainUnpickler(data, name).load()
        except _BROKEN as error:
            what = str(error) or type(error).__name__
            raise WorkbenchError(f"{name} is not a readable pickle ({what[:200]}): dump the snapshot again") from None


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every global and every persistent id: a second lock behind `_check`."""

    def __init__(self, data: bytes, name: str) -> None:
        # Without the buffer's `peek` the unpickler would ask for an unframed pickle byte by byte.
        super().__init__(io.BufferedReader(io.BytesIO(data), 1 << 20))
        self._name = name

    def find_class(self, module: str, name: str) -> object:
        asked = f"{module}.{name}"[:200]
        raise WorkbenchError(f"{self._name} asks for {asked!r}: refused, a snapshot holds plain data only")

    def persistent_load(self, pid: object) -> object:
        raise WorkbenchError(f"{self._name} asks for an outside object: refused, a snapshot holds plain data only")


@contextmanager
def collector_paused() -> Iterator[None]:
    """Python's cycle collector stands still: millions of new dicts would make it walk them all, again and again."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _check(data: bytes, name: str) -> None:
    """Steps over every instruction up to STOP; refuses the first that plain data does not need."""
    if data[:1] != b"\x80" or data[1:2] not in _PROTOCOLS:
        raise WorkbenchError(f"{name} is not a pickle of protocol 2 to 5: expected what _dump_snapshot writes")
    simple, position = _simple(len(data)), 0
    while True:
        while match := simple.match(data, position):
            position = match.end()
        code = data[position : position + 1]
        if code == b".":
            return
        if code in _NAMING:  # the unpickler will stop right here, in find_class, which can say what was asked for
            return
        if code not in _LENGTH_BYTES:
            raise WorkbenchError(_refusal(data, position, name))
        start = position + 1 + _LENGTH_BYTES[code]
        position = start + int.from_bytes(data[position + 1 : start], "little")
        if position > len(data):
            raise WorkbenchError(f"{name} ends in the middle of a text: the file was cut off")


_NAMES = {opcode.code: opcode.name for opcode in opcodes}
_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
_NAMING = (b"c", b"\x93")  # GLOBAL, STACK_GLOBAL
_LENGTH_BYTES = {b"\x8c": 1, b"X": 4, b"\x8d": 8}  # texts: how many bytes hold their length


def _simple(size: int) -> re.Pattern[bytes]:
    """Matches a run of instructions that need no bookkeeping, in a file of `size` bytes.

    Pairs are allowed only of two integers, so tuples cannot nest (hashing a deep one would overflow the C stack), and
    integers only up to nine bytes, so dict keys cannot be made to collide. The highest memo slot and the length of a
    frame take no more bytes to write than the file's size does: the unpickler makes room for twice the one, and for the
    other, before it looks further.
    """
    width = min((size.bit_length() + 7) // 8, 4)
    integer = rb"(?:K.|M..|J.{4}|\x8a(?:%b))" % b"|".join(b"\\x%02x.{%d}" % (n, n) for n in range(10))
    text = rb"\x8c(?:%b)" % b"|".join(b"\\x%02x.{%d}" % (n, n) for n in range(_SHORT + 1))
    memo = rb"q.|r.{%d}\x00{%d}" % (width, 4 - width)
    frame = rb"\x95.{%d}\x00{%d}" % (width, 8 - width)
    # MEMOIZE, EMPTY_DICT, EMPTY_LIST, MARK, SETITEMS, APPENDS, APPEND, SETITEM, NONE, NEWTRUE, NEWFALSE
    plain = rb"[\x94}\](ueasN\x88\x89]"
    sized = rb"h.|j.{4}|G.{8}|\x80[\x02-\x05]"  # BINGET, LONG_BINGET, BINFLOAT, PROTO
    one = rb"%b|%b(?:%b\x86)?|%b|%b|%b|%b" % (plain, integer, integer, sized, text, memo, frame)
    return re.compile(rb"(?s:%b){1,%d}" % (one, _AT_ONCE))


def _refusal(data: bytes, position: int, name: str) -> str:
    if position >= len(data):
        return f"{name} ends before its pickle does: the file was cut off"
    operation = _NAMES.get(chr(data[position]))
    what = f"the pickle instruction {operation}" if operation else f"the byte 0x{data[position]:02x}"
    return f"{name} has {what} at byte {position}, which no plain snapshot needs (or its end is cut off): refused"
