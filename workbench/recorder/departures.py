"""Which processes of a run went without a word: why it fails is mostly that, and who tells of it does so later."""

from __future__ import annotations

from collections.abc import Mapping

LATELY_NS = 60 * 10**9  # so long it may take until a process is missed, and what is left of its group has ended


class Departures:
    """The processes that say when they leave, and those of them that were cut off instead."""

    def __init__(self) -> None:
        self._here: set[int] = set()
        self._cut_off: dict[int, int] = {}  # when, by process

    def expect(self, pid: int) -> None:
        """A process will say when it leaves, or is needed to the end."""
        self._here.add(pid)

    def leave(self, pid: int) -> None:
        """It has said so."""
        self._here.discard(pid)

    def hang_up(self, pid: int, time_ns: int) -> None:
        """It is silent from now on: it was cut off, has left, or becomes another program by exec."""
        if pid in self._here:
            self._cut_off[pid] = time_ns

    def first(self, by_ns: int, ended: Mapping[int, int]) -> int:
        """When the first of those that were cut off lately was, while all that it had still counts; else `by_ns`.

        `ended`: when the memory of processes that are gone was taken for given back.
        """
        gone = [min(time_ns, ended.get(pid, by_ns) - 1) for pid, time_ns in self._cut_off.items() if not is_alive(pid)]
        return min([by_ns, *(time_ns for time_ns in gone if by_ns - time_ns < LATELY_NS)])


def is_alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False
