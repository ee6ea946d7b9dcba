"""The part of protobuf's wire format that a trace needs: fields of numbers, of text, and of other fields.

A key is `number << 3 | kind`, kind 0 for a varint and 2 for bytes after their length.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes2D = npt.NDArray[np.uint8]  # [row, byte]


def varint(value: int) -> bytes:
    """A number, seven bits a byte, lowest first; a negative one as its 64-bit complement."""
    value &= (1 << 64) - 1
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def number(field: int, value: int) -> bytes:
    """A field that holds a number."""
    return varint(field << 3) + varint(value)


def message(field: int, *parts: bytes) -> bytes:
    """A field that holds other fields."""
    body = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    """A field that holds text."""
    return message(field, value.encode("utf-8", "replace"))


def numbers(field: int, values: npt.NDArray[np.int64], width: int) -> Bytes2D:
    """One number field a row, all of the same size: varints may be padded, so columns of rows can be made at once.

    `width` bytes hold 7 bits each; 10 hold any 64-bit number.
    """
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    parts = (values.astype(np.uint64)[:, None] >> shifts).astype(np.uint8) | np.uint8(0x80)
    parts[:, -1] &= 0x7F
    return np.hstack([constant(varint(field << 3), len(values)), parts])


def constant(part: bytes, rows: int) -> Bytes2D:
    """The same bytes in every row."""
    return np.broadcast_to(np.frombuffer(part, dtype=np.uint8), (rows, len(part)))


def messages(field: int, *columns: Bytes2D) -> Bytes2D:
    """One message field a row, made of columns of fields."""
    body = np.hstack(columns)
    return np.hstack([constant(varint(field << 3 | 2) + varint(body.shape[1]), len(body)), body])
