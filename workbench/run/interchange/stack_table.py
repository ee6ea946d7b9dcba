"""Stacks as a table of numbers, from the lists of frames that PyTorch writes, and back."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence

import pyarrow as pa

from workbench.errors import WorkbenchError
from workbench.run import schema

LONGEST = 4096
"""Characters kept of a file name or a function name."""

_FRAME = re.compile(r"(.*?):(-?\d{1,15}) (.*)", re.DOTALL)


class StackTable:
    """Numbers every different list of frames from 1; 0 is the empty one.

    One frame in a small file can be named by many stacks and one text by many frames, so both are counted against
    `room`, the size of the file they came from: real files stay far below it.
    """

    def __init__(self, room: int) -> None:
        self._room = 64 * room + (1 << 20)
        self._stacks: dict[tuple[int, ...], int] = {(): 0}
        self._frames: dict[tuple[str, int, str], int] = {}
        self._as_written: dict[tuple[str, int, str], int] = {}  # before `plain_text`
        self._by_list: dict[int, int] = {}  # id of a list of frames, which the caller keeps alive
        self._by_frame: dict[int, int] = {}

    def number(self, frames: object) -> int:
        """The number of the stack in `frames`, a list of dicts with filename, line and name, innermost first."""
        if not frames:
            return 0
        known = self._by_list.get(id(frames))
        if known is None:
            if not isinstance(frames, list):
                raise WorkbenchError(f"the snapshot has {type(frames).__name__} as frames: expected a list")
            self._spend(len(frames))
            stack = tuple([self._by_frame.get(id(frame)) or self._frame(frame) for frame in frames])
            known = self._by_list[id(frames)] = self._stacks.setdefault(stack, len(self._stacks))
        return known

    def table(self) -> pa.Table:
        """The stacks met so far, in the schema of a run."""
        texts = pa.array([f"{file}:{line} {name}" for file, line, name in self._frames], pa.string())
        offsets, codes = array("i", [0]), array("i")
        for stack in self._stacks:
            codes.extend(frame - 1 for frame in stack)
            offsets.append(len(codes))
        frames = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), texts)
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), frames)
        numbers = pa.array(range(len(self._stacks)), pa.int32())
        return pa.table([numbers, lists], schema=schema.STACKS).slice(1)

    def _frame(self, frame: object) -> int:
        """The number of a frame, from 1."""
        if not isinstance(frame, dict):
            raise WorkbenchError(f"the snapshot has {type(frame).__name__} as a frame: expected a dict")
        file, line, name = frame.get("filename", ""), frame.get("line", 0), frame.get("name", "")
        if not (isinstance(file, str) and isinstance(name, str) and isinstance(line, int) and abs(line) < 1 << 53):
            raise WorkbenchError("the snapshot has a frame whose filename, line or name is not text, number, text")
        number = self._as_written.get((file, line, name)) or self._new_frame(file, line, name)
        self._by_frame[id(frame)] = number
        return number

    def _new_frame(self, file: str, line: int, name: str) -> int:
        key = (plain_text(file), int(line), plain_text(name))
        self._spend(len(key[0]) + len(key[2]))
        number = self._frames.setdefault(key, len(self._frames) + 1)
        self._as_written[file, line, name] = number
        return number

    def _spend(self, amount: int) -> None:
        self._room -= amount
        if self._room < 0:
            raise WorkbenchError("the snapshot repeats its stacks far more often than its size allows: refused")


def plain_text(text: str) -> str:
    """`text`, short enough and with nothing in it that UTF-8 cannot write."""
    kept = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return kept if kept.isascii() else kept.encode("utf-8", "replace").decode("utf-8")


def torch_frames(frames: Sequence[str]) -> list[dict[str, object]]:
    """The frames of a stack as PyTorch writes them."""
    return [_torch_frame(frame) for frame in frames]


def _torch_frame(frame: str) -> dict[str, object]:
    match = _FRAME.fullmatch(frame)
    file, line, name = match.groups() if match else ("", "0", frame)
    return {"filename": file, "line": int(line), "name": name}
