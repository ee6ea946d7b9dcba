"""How tables cross to the browser: a description, and the Arrow buffers of their columns as they lie in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any] | Sequence[str]


@dataclass(frozen=True)
class Answer:
    """What a page gets for a question: plain data, and a table."""

    facts: dict[str, Any]
    columns: Mapping[str, Column]

    def crossing(self) -> tuple[dict[str, Any], list[memoryview]]:
        """The facts with a description of each column, and the columns' buffers one after the other."""
        described: list[dict[str, Any]] = []
        buffers: list[memoryview] = []
        for name, column in self.columns.items():
            kind, parts = _numbers(column) if isinstance(column, np.ndarray) else _texts(column)
            described.append({"name": name, "type": kind, "rows": len(column)})
            buffers += parts
        return {**self.facts, "columns": described}, buffers

    def packed(self) -> bytes:
        """The crossing in one piece: how many parts, the size of each, and the parts, each on a multiple of eight."""
        facts, buffers = self.crossing()
        parts = [json.dumps(facts).encode(), *(bytes(buffer) for buffer in buffers)]
        head = struct.pack(f"<{len(parts) + 1}I", len(parts), *(len(part) for part in parts))
        return b"".join(part + bytes(-len(part) % 8) for part in (head, *parts))


def _numbers(column: npt.NDArray[Any]) -> tuple[str, list[memoryview]]:
    """Numbers as JavaScript reads them: up to 2^53 whole ones are exact as doubles."""
    if column.dtype == np.int32:
        return "int32", [memoryview(column.astype("<i4").tobytes())]
    return "double", [memoryview(column.astype("<f8").tobytes())]


def _texts(column: Sequence[str]) -> tuple[str, list[memoryview]]:
    """Texts as UTF-8, and where each begins and the last ends. pyarrow would load pandas, which takes longer."""
    encoded = [text.encode() for text in column]
    offsets = np.zeros(len(encoded) + 1, dtype="<i4")
    np.cumsum([len(one) for one in encoded], out=offsets[1:])
    return "string", [memoryview(offsets.tobytes()), memoryview(b"".join(encoded))]
