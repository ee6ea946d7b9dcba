"""How much of the host's memory a process here can still take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MOMENT_S = 0.1
CGROUP, MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_bytes() -> int:
    """Gives the bytes that a process here can still take: of the machine, and of the groups that it is limited to."""
    return max(0, min([_available(), *(group.free for group in _groups() if group.free is not None)]))


class Lately:
    """What was free a moment ago, less what was taken since: asking the kernel takes longer than page-locking a MiB."""

    def __init__(self) -> None:
        self._left, self._until = 0, 0.0

    def has(self, size: int) -> bool:
        """Whether so much can be taken without a doubt, which it then is."""
        if time.monotonic() > self._until:
            self._left, self._until = free_bytes(), time.monotonic() + MOMENT_S
        self._left -= size
        return self._left > size


def _available() -> int:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next(int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:")


@dataclass(frozen=True)
class _Group:
    """A folder of the kernel's for processes that share a limit, and its files' names."""

    folder: Path
    limit: str
    used: str
    cache: str  # in memory.stat: what it can have back at once

    @property
    def free(self) -> int | None:
        """Bytes up to the limit; None where there is none."""
        limit, used = (_number(self.folder / name) for name in (self.limit, self.used))
        if limit is None or used is None:
            return None
        stat = dict(line.split() for line in _text(self.folder / "memory.stat").splitlines())
        return limit - used + int(stat.get(self.cache, 0))


def _groups() -> Iterator[_Group]:
    """The groups that this process is in, and those around them, by either of the kernel's two ways to have them."""
    for line in _text(MINE).splitlines():
        _, kinds, path = line.split(":", 2)
        if not kinds:
            yield from (_Group(each, "memory.max", "memory.current", "inactive_file") for each in _upward(CGROUP, path))
        elif "memory" in kinds.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from (_Group(each, *names) for each in _upward(CGROUP / "memory", path))


def _upward(top: Path, path: str) -> Iterator[Path]:
    """A group's folder and those around it; in a container the top is the group itself."""
    inner = PurePosixPath(path.lstrip("/"))
    for each in (inner, *inner.parents):
        yield top / each


def _number(file: Path) -> int | None:
    """The number in a file of the kernel; none where there is no limit, or no such file."""
    try:
        return int(_text(file))
    except ValueError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
