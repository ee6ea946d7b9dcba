"""What is read of the truth while a run is recorded: the run's totals.

What is in use on each GPU and resident of each process is read often. Who holds a process's pages is read at phase
edges, while whoever tells of the edge waits, and where much has changed since: for that the kernel walks through all
of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from workbench.recorder.recorded import Recorded
from workbench.recorder.residency import held_by, private_bytes
from workbench.recorder.rows import Rows, none
from workbench.recorder.settings import DEFAULT_THRESHOLD
from workbench.recorder.truth import resident_bytes
from workbench.run.streams import Names, Stream
from workbench.units import format_bytes

SECOND = 10**9
MOMENT = 50_000_000  # ns in which a program whose memory has not changed has hardly run on
NO_MORE = 1 << 20  # bytes: a change so small is none
GROWN = 64 << 20  # bytes of change after which who holds the pages is read again, also between phase edges
RARELY = 500  # between phase edges these readings, for which the kernel holds programs up, take this part of the time

Totals = list[dict[str, Any]]
Processes = Mapping[int, Recorded | None]  # by process id; one that has taken nothing large yet has no ring


class Readings:
    """Reads the truth, and writes it."""

    def __init__(self, names: Names, stream: Stream, started_ns: int) -> None:
        self._names = names
        self._stream = stream
        self._started_ns = started_ns
        self._before: dict[int, Rows] = {}  # what processes that are recorded late held by then
        self.moved = 0  # bytes handed out, given back or registered since it was read who holds the pages
        self.in_memory = 0  # bytes resident when that was read last
        self._measured = 0  # the same as it was read who holds them
        self._measured_until_ns = 0
        self._measure_after_ns = 0

    def note_before(self, pid: int, rows: Rows) -> None:
        """What a process that is recorded late holds by now; who holds its pages may have been read without it."""
        self._before[pid] = rows
        self._measured_until_ns = 0

    def sample(self, used: list[int], time_ns: int, processes: Processes) -> None:
        """Write what is in use on each device and resident; where that has changed much, who holds the pages too."""
        rows = self._in_use(used, time_ns, processes)
        change = abs(self.in_memory - self._measured)
        if change > max(GROWN, self._measured // 10) and time_ns > self._measure_after_ns:
            rows += self._measure(time_ns, processes)
        self._write(rows)

    def edge(self, used: list[int], time_ns: int, processes: Processes) -> None:
        """Write the same and who holds the pages, unless one phase ends as the next begins: then it was just read."""
        rows = self._in_use(used, time_ns, processes)
        change = max(self.moved, abs(self.in_memory - self._measured))
        if time_ns - self._measured_until_ns > MOMENT or change > NO_MORE:
            rows += self._measure(time_ns, processes)
        self._write(rows)

    def last(self, used: list[int], time_ns: int) -> None:
        """Write what is in use on the devices when the processes are gone."""
        self._write(self._devices(used, time_ns))

    def _in_use(self, used: list[int], time_ns: int, processes: Processes) -> Totals:
        resident = {pid: size for pid in processes if (size := resident_bytes(pid))}
        self.in_memory = sum(resident.values())
        rows = [self._total(time_ns, pid, "pageable", -1, "resident", size) for pid, size in resident.items()]
        return self._devices(used, time_ns) + rows

    def _devices(self, used: list[int], time_ns: int) -> Totals:
        return [self._total(time_ns, 0, "gpu", device, "used", size) for device, size in enumerate(used)]

    def _measure(self, time_ns: int, processes: Processes) -> Totals:
        """The private memory of every recorded process, and who holds it."""
        begin = time.monotonic_ns()
        rows: Totals = []
        for pid, process in processes.items():
            with suppress(OSError):  # it ended, or ended between two reads
                rows += self._pageable_of(pid, process, time_ns)
        self._measured, self.moved = self.in_memory, 0
        self._measured_until_ns = time.monotonic_ns()
        self._measure_after_ns = self._measured_until_ns + max(SECOND, RARELY * (self._measured_until_ns - begin))
        return rows

    def _pageable_of(self, pid: int, process: Recorded | None, time_ns: int) -> Totals:
        known = [process.live.rows, process.reserved.rows] if process else []
        rows = np.concatenate([self._before.get(pid, none()), *known])  # first: what came since has its place instead
        below = f"below {format_bytes(process.threshold if process else DEFAULT_THRESHOLD)}"
        with ThreadPoolExecutor(1) as beside:  # for both the kernel walks through all pages
            private = beside.submit(private_bytes, pid)
            held = held_by(pid, rows, below)
        made = [self._total(time_ns, pid, "pageable", -1, "private", private.result() - held.registered)]
        for (owner, tag), size in held.numbered.items():
            made.append(self._held(time_ns, pid, owner, tag or None, size))
        for (name, what), size in held.named.items():
            made.append(self._held(time_ns, pid, self._names.id(name), self._names.id(what) if what else None, size))
        return made

    def _held(self, time_ns: int, pid: int, owner: int, tag: int | None, size: int) -> dict[str, Any]:
        return self._total(time_ns, pid, "pageable", -1, "held", size) | {"owner": owner, "tag": tag}

    def _total(self, time_ns: int, pid: int, tier: str, device: int, name: str, size: int) -> dict[str, Any]:
        return {
            "time_ns": time_ns - self._started_ns,
            "process": pid,
            "tier": self._names.id(tier),
            "device": device,
            "name": self._names.id(name),
            "owner": None,
            "tag": None,
            "bytes": size,
        }

    def _write(self, rows: Totals) -> None:
        self._names.flush()
        self._stream.write_rows(rows)
