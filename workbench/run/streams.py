"""A run while it is written: one append-only Arrow stream a table, with names as numbers.

Batches of a stream are whole or absent, so a reader takes what is there, at any time, from any process: that is the
live feed, and it is how a killed run is read.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from workbench.errors import RunError
from workbench.run import schema

OPENING = b"\xff\xff\xff\xff"  # of every message of a stream
ENDING = OPENING + bytes(4)  # an empty message ends it
LARGEST_MESSAGE = 1 << 28  # bytes; no batch is as large,
LARGEST_METADATA = 1 << 20  # nor what stands before its columns
NAMES = pa.schema([("id", pa.int32()), ("text", pa.string())])


def coded(table: pa.Schema) -> pa.Schema:
    """The schema of a table's stream: text columns hold ids of names."""
    return pa.schema([field.with_type(_coded_type(field.type)) for field in table])


def _coded_type(kind: pa.DataType) -> pa.DataType:
    if kind == schema.TEXT:
        return pa.int32()
    if pa.types.is_list(kind):
        return pa.list_(_coded_type(kind.value_type))
    return kind


CODED = {name: coded(table) for name, table in schema.TABLES.items()}


class Names:
    """Ids for names, the same in every table of a run; new ones are appended to `names.arrow`."""

    def __init__(self, folder: Path) -> None:
        self._ids: dict[str, int] = {}
        self._texts: list[str] = []
        self._written = 0
        self._stream = Stream(folder / "names.arrow", NAMES)

    def id(self, text: str) -> int:
        """The id of `text`, given at its first use."""
        known = self._ids.get(text)
        if known is None:
            known = self._ids[text] = len(self._texts)
            self._texts.append(text)
        return known

    def text(self, number: int) -> str:
        """The name of an id."""
        return self._texts[number]

    def flush(self) -> None:
        """Write the names that are new: call it before a batch that refers to them."""
        if self._written < len(self._texts):
            ids = pa.array(range(self._written, len(self._texts)), pa.int32())
            texts = pa.array(self._texts[self._written :], pa.string())
            self._stream.write(pa.record_batch([ids, texts], schema=NAMES))
            self._written = len(self._texts)

    def texts(self) -> list[str]:
        """Every name, at the place of its id."""
        return self._texts

    def close(self) -> None:
        self.flush()
        self._stream.close()


class Stream:
    """One table's stream, open for appending."""

    def __init__(self, path: Path, table: pa.Schema) -> None:
        self.schema = table
        self.rows = 0
        self._file = path.open("xb", buffering=0)
        self._append(table.serialize())

    def write(self, batch: pa.RecordBatch) -> None:
        """Append `batch`; readers see it when this returns."""
        self._append(batch.serialize())
        self.rows += batch.num_rows

    def _append(self, message: pa.Buffer) -> None:
        """Write a message at once, which is mostly one call."""
        rest = memoryview(message)
        while rest:
            rest = rest[self._file.write(rest) :]

    def write_rows(self, rows: Sequence[dict[str, object]]) -> None:
        """Append rows given one by one: for tables of few rows."""
        if rows:
            self.write(pa.RecordBatch.from_pylist(list(rows), schema=self.schema))

    def close(self) -> None:
        self._append(pa.py_buffer(ENDING))
        self._file.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def read_stream(path: Path) -> Sequence[pa.RecordBatch]:
    """The whole batches of a stream, in order, up to an unfinished last one, or to the first that is `damage`."""
    if not path.exists():
        return []
    if not path.is_file():
        raise RunError(f"{path} is no file")
    with path.open("rb") as file:
        if not OPENING.startswith(file.read(len(OPENING))):
            raise RunError(f"{path} is not a stream of a run")
    return Tail(path).new()


def damage(path: Path) -> str | None:
    """What of a stream can not be read, in one line; None where it is no more than an unfinished last batch."""
    if not path.is_file():
        return None
    tail = Tail(path)
    rows = sum(batch.num_rows for batch in tail.new())
    rest = tail.rest()
    if rest in (b"", ENDING) or _is_unfinished(rest):
        return None
    read, unread = f"{rows} rows before it are read", f"{len(rest)} bytes from there on are not"
    return f"{path.name} is damaged at byte {path.stat().st_size - len(rest)}: the {read}, the {unread}"


def _is_unfinished(rest: memoryview) -> bool:
    """Whether these last bytes are of a message that was cut off: more would make it whole, and no other follows."""
    if len(rest) < len(ENDING):
        return OPENING.startswith(rest[: len(OPENING)])
    length = int.from_bytes(rest[len(OPENING) : len(ENDING)], "little")  # of what stands before the columns
    if rest[: len(OPENING)] != OPENING or length > LARGEST_METADATA or any(map(_is_message, _openings(rest))):
        return False
    if len(rest) < len(ENDING) + length:
        return True
    more = mmap.mmap(-1, LARGEST_MESSAGE, mmap.MAP_PRIVATE)  # zeros, which take no memory
    more[: len(ENDING) + length] = rest[: len(ENDING) + length]
    return _is_message(memoryview(more))


def _openings(rest: memoryview) -> Iterator[memoryview]:
    """From each place on at which a message may begin."""
    words = np.frombuffer(rest[: len(rest) // 8 * 8], np.int32).reshape(-1, 2)
    for place in np.flatnonzero((words[:, 0] == -1) & (words[:, 1] > 0) & (words[:, 1] < LARGEST_METADATA)).tolist():
        yield rest[8 * place :]


def _is_message(data: memoryview) -> bool:
    try:
        return pa.ipc.read_message(pa.BufferReader(pa.py_buffer(data))) is not None
    except (pa.ArrowException, EOFError, OSError):
        return False


class Tail:
    """The end of a stream that is being written: what is new is read once, however long the rest has become."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None  # kept open: sealing removes the stream, and its end is read after that
        self._place = 0  # of the next message
        self._schema: pa.Schema | None = None

    def open(self) -> bool:
        """Hold on to the stream, if it is there; returns whether it is held."""
        if self._file is None:
            with suppress(FileNotFoundError):
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                weakref.finalize(self, os.close, self._file)
        return self._file is not None

    def new(self) -> list[pa.RecordBatch]:
        """The batches that were written since the last call."""
        if not self.open() or self._size == self._place:
            return []
        batches = []
        file = pa.BufferReader(pa.py_buffer(self._mapped()))
        file.seek(self._place)
        with suppress(pa.ArrowException, EOFError, OSError):  # cut off inside a message, damaged, or at its end
            while True:
                message = pa.ipc.read_message(file)
                if self._schema is None:
                    self._schema = pa.ipc.read_schema(message)
                else:
                    batch = pa.ipc.read_record_batch(message, self._schema)
                    batch.validate(full=True)  # text and lists of a damaged file point anywhere
                    batches.append(batch)
                self._place = file.tell()
        return batches

    def rest(self) -> memoryview:
        """The bytes behind the last batch that was read."""
        return self._mapped()[self._place :] if self.open() and self._size else memoryview(b"")

    def _mapped(self) -> memoryview:
        assert self._file is not None
        return memoryview(mmap.mmap(self._file, 0, prot=mmap.PROT_READ))

    @property
    def _size(self) -> int:
        assert self._file is not None
        return os.stat(self._file).st_size


def read_names(folder: Path) -> list[str]:
    """Every name written so far, at the place of its id."""
    names: list[str] = pa.Table.from_batches(read_stream(folder / "names.arrow"), NAMES)["text"].to_pylist()
    return names
