"""Columns of a run's tables as numpy arrays: the one place that knows how text columns are coded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def equals(table: pa.Table, column: str, text: str) -> Mask:
    """Which rows have `text` in a text column."""
    same = np.empty(table.num_rows, dtype=bool)
    start = 0
    for chunk in table[column].chunks:
        _equals(chunk, text, same[start : start + len(chunk)])
        start += len(chunk)
    return same


def _equals(chunk: pa.DictionaryArray, text: str, same: Mask) -> None:
    texts = chunk.dictionary.to_pylist()
    if text not in texts:
        same[:] = False
        return
    np.equal(values(chunk.indices), texts.index(text), out=same)
    if chunk.null_count:
        same &= np.asarray(chunk.is_valid())


def values(array: pa.Array) -> npt.NDArray[np.int64]:
    """The whole numbers of an array where they lie. pyarrow's own conversions would load pandas, which takes longer."""
    kind = np.dtype(str(array.type))  # Arrow's names of whole numbers are numpy's
    if not len(array):
        return np.zeros(0, kind)
    whole: npt.NDArray[np.int64] = np.frombuffer(array.buffers()[1], kind)
    return whole[array.offset : array.offset + len(array)]


def arrow(numbers: npt.NDArray[np.integer]) -> pa.Array:
    """Whole numbers as an Arrow array, where they lie: the other way round than `values`, and for the same reason."""
    kind = pa.from_numpy_dtype(numbers.dtype)
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(np.ascontiguousarray(numbers))])


def codes(table: pa.Table, column: str) -> tuple[Ints, list[str | None]]:
    """A text column as numbers and the texts they stand for; the last text is None, for rows that have none."""
    unified = table.select([column]).unify_dictionaries()[column]
    if not unified.num_chunks:
        return np.zeros(0, dtype=np.int64), [None]
    texts: list[str | None] = [*unified.chunk(0).dictionary.to_pylist(), None]
    none = len(texts) - 1
    found = np.concatenate([values(chunk.indices) for chunk in unified.chunks], dtype=np.int64)
    if unified.null_count:
        found[np.concatenate([_is_null(chunk.indices) for chunk in unified.chunks])] = none
    return found, texts


def _is_null(array: pa.Array) -> Mask:
    """Which are null, from the bits that say so: `fill_null` would load pandas."""
    bitmap = array.buffers()[0]
    if bitmap is None:
        return np.zeros(len(array), dtype=bool)
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    is_null: Mask = bits[array.offset : array.offset + len(array)] == 0
    return is_null


def numbers(table: pa.Table, column: str) -> npt.NDArray[np.int64]:
    """A number column; what is null reads as 0."""
    chunks = [chunk.fill_null(0) if chunk.null_count else chunk for chunk in table[column].chunks if len(chunk)]
    if len(chunks) == 1:
        return values(chunks[0])
    return np.concatenate([values(chunk) for chunk in chunks]) if chunks else np.zeros(0, np.int64)


def text(table: pa.Table, column: str) -> list[str | None]:
    """A text column, row by row: for tables of few rows."""
    values: list[str | None] = table[column].to_pylist()
    return values
