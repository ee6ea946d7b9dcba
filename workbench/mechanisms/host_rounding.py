"""What host memory takes beyond what is asked for, by the way it is had: known without having it."""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workbench.errors import MechanismError, UsageError, nearest
from workbench.units import LARGEST, format_bytes

PAGE = mmap.PAGESIZE
ARMS = {
    "pageable": "mapped, never page-locked",
    "pinned-pool": "page-locked by torch's pin_memory, which rounds up to a power of two and keeps what is freed",
    "pinned-pool-exact": "the same pool told not to round: pinned_max_round_threshold_mb, from torch 2.13 on",
    "host-alloc": "page-locked by cudaHostAlloc, mapped into the GPU's addresses",
    "host-register": "mapped, then page-locked by cudaHostRegister",
}
CGROUP, MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def taken_bytes(arm: str, asked: int) -> int:
    """Gives the bytes that an arm takes for so many: whole pages, or in torch's pool the next power of two."""
    if arm not in ARMS:
        raise UsageError(f"there is no way {arm!r} to have host memory: {nearest(arm, ARMS)}")
    check_size(asked)
    if not asked:
        return 0
    rounded = 1 << (asked - 1).bit_length() if arm == "pinned-pool" else asked
    return -(-rounded // PAGE) * PAGE


def check_size(asked: int) -> None:
    """Refuses what is no size of memory."""
    if not 0 <= asked <= LARGEST:
        raise UsageError(f"{asked} bytes can not be had: give 0 to {LARGEST}")


def refuse_more_than_there_is(arm: str, asked: int) -> None:
    """Refuses what would end in the kernel killing a process, since page-locking it takes every page at once."""
    taken, free = taken_bytes(arm, asked), free_bytes()
    if taken > free:
        rounded = f", which takes {format_bytes(taken)}" if taken > asked + PAGE else ""
        raise MechanismError(
            f"{format_bytes(asked)} by {arm}{rounded}: out of memory, this host has {format_bytes(free)} free"
        )


def free_bytes() -> int:
    """Gives the bytes that a process here can still take: of the machine, and of the groups that it is limited to."""
    return max(0, min([_available(), *(group.free for group in _groups() if group.free is not None)]))


def why_not_had(asked: int, said: str) -> str:
    """Gives the likeliest reason why so many bytes could not be had, beside what was said."""
    if asked > (free := free_bytes()):
        return f"{said}; out of memory: this host has {format_bytes(free)} free"
    return said


def why_not_locked(asked: int, said: str) -> str:
    """Gives the likeliest reason why so many bytes could not be page-locked, beside what CUDA said."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and asked > limit and os.geteuid():
        return f"{said}; the locked-memory limit is {format_bytes(limit)}: raise it with `ulimit -l`"
    return why_not_had(asked, said)


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
