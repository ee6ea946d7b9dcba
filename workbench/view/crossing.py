"""How tables cross to the browser: a description, and the Arrow buffers of their columns as they lie in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Column = npt.NDArray[Any] | Sequence[str]


@dataclass(frozen=True)
class Answer:
    """What a page gets for a question: plain data, and a table."""

    facts: dict[str, Any]
    columns: Mapping[str, Column]

    def crossing(self) -> tuple[dict[str, Any], list[memoryview]]:
        """The facts with a description of each column, and the columns' buffers one after the other."""
        described, buffers = [], []
        for name, column in self.columns.items():
            array = _array(column)
            described.append({"name": name, "type": str(array.type), "rows": len(array)})
            buffers += [memoryview(buffer or b"") for buffer in array.buffers()[1:]]
        return {**self.facts, "columns": described}, buffers

    def packed(self) -> bytes:
        """The crossing in one piece: how many parts, the size of each, and the parts, each on a multiple of eight."""
        facts, buffers = self.crossing()
        parts = [json.dumps(facts).encode(), *(bytes(buffer) for buffer in buffers)]
        head = struct.pack(f"<{len(parts) + 1}I", len(parts), *(len(part) for part in parts))
        return b"".join(part + bytes(-len(part) % 8) for part in (head, *parts))


def _array(column: Column) -> pa.Array:
    """A column as JavaScript reads it: numbers up to 2^53 are exact as doubles, text is UTF-8 with offsets."""
    if isinstance(column, np.ndarray):
        wide = column.dtype.kind in "iu" and column.dtype.itemsize == 8
        return pa.array(np.ascontiguousarray(column, dtype=np.float64 if wide else None))
    return pa.array(list(column), pa.string())
