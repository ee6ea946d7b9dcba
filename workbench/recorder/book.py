"""What the scribe writes: the streams of a run, filled from the rings and from readings of the truth."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from workbench.recorder.batches import Batches
from workbench.recorder.native import ALLOC, COPY, DRIVER, FILE, FREE, GPU, HOST, MEASURE, PAGEABLE, REFUSED, SHARED
from workbench.recorder.pending import Pending
from workbench.recorder.readings import Readings
from workbench.recorder.recorded import Recorded, Stacks, only_addresses
from workbench.recorder.residency import unclaimed
from workbench.recorder.rings import rings
from workbench.recorder.rows import ROW, Rows, none
from workbench.recorder.settings import SPOOL
from workbench.recorder.truth import Devices
from workbench.recorder.unrecorded import FIRST_ADDRESS, Unrecorded
from workbench.run import schema
from workbench.run.ledger import Ledger, alive_by_owner
from workbench.run.sealing import named, read_ordered, seal
from workbench.run.streams import CODED, Names, Stream
from workbench.units import format_bytes

BEFORE = "before the run"
SECOND = 10**9
LONG_AGO = 3 * SECOND  # longer than the steps in which any file system tells time
VISIBLE = 1 / 400  # of what is in use: a picture shows no smaller change
TRY_AGAIN = ("libc10_cuda.so",)  # who frees its cache where the driver has none, and says so if that did not help
MOST_SHORTAGES = 20  # a program that tries again and again has told enough by then

Teller = tuple[int, int]  # process and thread


class Book:
    """The streams of one run while it is written."""

    def __init__(self, folder: Path, started_ns: int, devices: Devices, used: list[int]) -> None:
        """`used`: bytes of each device that were in use before the program began."""
        self.folder = folder
        self._spool = folder / SPOOL
        self._discovered_ns = 0  # when their folder had changed last as all rings in it were found
        self._started_ns = started_ns
        self._devices = devices
        self._names = Names(folder)
        self._names.id("")  # id 0: a name that nobody gave
        self._batches = Batches(self._names, started_ns)
        self._streams = {name: Stream(folder / f"{name}.arrow", table) for name, table in CODED.items()}
        self._readings = Readings(self._names, self._streams["totals"], started_ns)
        self._stacks = Stacks(self._names)
        self._processes: dict[Path, Recorded] = {}
        self._greeted: dict[int, Rows] = {}  # by process id; it has no rows of its own until it has a ring
        self._unrecorded = Unrecorded()
        self._pending = Pending()
        self._told: dict[str, list[list[int]]] = defaultdict(list)  # by table: rows that wait to be written
        self._open_phases: list[tuple[Teller, dict[str, Any]]] = []
        self._gone_lost = 0
        self.ended: dict[int, int] = {}  # when the memory of processes that are gone was given back
        self.shortages: list[dict[str, Any]] = []
        self._begin(used)

    def _begin(self, used: list[int]) -> None:
        """What is in use on the devices before the run is an owner of its own."""
        rows = np.zeros(len(used), ROW)
        for device, size in enumerate(used):
            self._unrecorded.begin(device, size)
            rows[device]["kind"], rows[device]["layer"], rows[device]["tier"] = ALLOC, DRIVER, GPU
            rows[device]["bytes"] = rows[device]["asked"] = size
            rows[device]["address"] = FIRST_ADDRESS - 1 - device
        rows["time_ns"], rows["device"] = self._started_ns, np.arange(len(rows))
        rows["owner"] = self._names.id(BEFORE)
        self._pending.add(rows, 0)

    def greet(self, pid: int) -> bool:
        """A recorded Python process is there; returns whether it is the first, also where it became it by exec."""
        for teller, phase in [one for one in self._open_phases if one[0][0] == pid]:
            self._close_phase(phase["name"], time.monotonic_ns(), teller)  # of the program that it was before
        self._greeted.setdefault(pid, none())
        return pid == next(iter(self._greeted))

    def note_before(self, pid: int) -> None:
        """A process is recorded from its middle on: what it holds by now is of before, as long as it holds it."""
        spans = np.array(unclaimed(pid), np.uint64).reshape(-1, 2)
        rows = np.zeros(len(spans), ROW)
        rows["kind"], rows["layer"], rows["owner"] = ALLOC, HOST, self._names.id(BEFORE)
        rows["address"], rows["bytes"] = spans[:, 0], spans[:, 1] - spans[:, 0]
        self._readings.note_before(pid, rows)

    def glance(self) -> None:
        """Take what has come since, and write it where a picture of the run would show it."""
        self._write_told()
        for process in self._processes.values():
            self._take_from(process, last=False)
        in_use = {PAGEABLE: self._readings.in_memory, GPU: sum(self._devices.used()) if self._pending.moved(GPU) else 0}
        if any(self._pending.moved(tier) > size * VISIBLE for tier, size in in_use.items()):
            self.tick()

    def tick(self) -> None:
        """Take what has come since, write it, and sample the truth."""
        self._take()
        self._flush()
        used, now = self._read_devices()
        self._readings.sample(used, now, self._pids())

    def _take(self, last: bool = False, by_ns: int | None = None) -> None:  # by then who is gone has given all back
        self._discover()
        for path, process in list(self._processes.items()):
            alive = process.is_alive
            self._take_from(process, last or not alive)
            if not alive and not self._is_first(process):
                self.ended[process.pid] = self._bury(path, process, by_ns)

    def _take_from(self, process: Recorded, last: bool) -> None:
        """Take what a process has recorded since."""
        rows = process.drain(last)
        if not len(rows):
            return
        there = np.bincount(rows["kind"], minlength=REFUSED + 1)  # of each kind: mostly changes, and nothing else
        self._tag_mappings(rows)
        if there[COPY]:
            self._write("copies", self._batches.copies(rows[rows["kind"] == COPY], process.pid))
        process.reserve(rows)
        changes = rows[((rows["kind"] == ALLOC) | (rows["kind"] == FREE)) & ~only_addresses(rows)]
        events = process.live.apply(changes)
        self._pending.add(events, process.pid)
        self._unrecorded.add(process.pid, rows[rows["kind"] == MEASURE], events)
        if there[REFUSED]:
            self._note_refusals(rows[rows["kind"] == REFUSED])

    def _discover(self) -> None:
        """Find new rings; where nothing has come into their folder, as mostly, it is not read."""
        changed_ns = os.stat(self._spool).st_mtime_ns
        if changed_ns == self._discovered_ns:
            return
        for path in rings(self._spool):
            if path not in self._processes:
                found = Recorded(path, self._names, self._stacks)
                for older, process in list(self._processes.items()):
                    if process.pid == found.pid:  # it became another program by exec, or its id was given again
                        self._take_from(process, last=True)
                        self._bury(older, process)
                self._processes[path] = found
        if time.time_ns() - changed_ns > LONG_AGO:  # else more may come at what the folder calls the same time
            self._discovered_ns = changed_ns

    def _is_first(self, process: Recorded) -> bool:
        """Whether a process is the one that the run is of: what it holds at its end stays, to be looked at."""
        pids = [*self._greeted, *(other.pid for other in self._processes.values())]
        return process.pid == pids[0]

    def _bury(self, path: Path, process: Recorded, by_ns: int | None = None) -> int:
        """A program that is gone has given back all that it had, after all that it did: returns when."""
        end_ns = time.monotonic_ns() if by_ns is None else max(by_ns, process.did_ns)
        frees = process.live.rows.copy()
        frees["kind"], frees["time_ns"] = FREE, end_ns
        freed = process.live.apply(frees)
        self._pending.add(freed, process.pid)
        self._unrecorded.add(process.pid, none(), freed)
        for pid, rows in self._unrecorded.bury(process.pid, end_ns):
            self._pending.add(rows, pid)
        self._gone_lost += process.lost
        process.close()
        del self._processes[path]
        return end_ns

    def _tag_mappings(self, rows: Rows) -> None:
        """Mappings of files, and memory shared with other processes, are for just that where nobody says more."""
        untagged = (rows["layer"] == HOST) & (rows["tag"] == 0)
        rows["tag"][untagged & (rows["flags"] & SHARED != 0)] = self._names.id("shared")
        rows["tag"][untagged & (rows["flags"] & FILE != 0)] = self._names.id("file")

    def _settle(self, last: bool = False, by_ns: int | None = None) -> None:
        """Write what has come since, and what no allocation record shows: every source has flushed, all is here."""
        self._take(last, by_ns)
        for pid, rows in self._unrecorded.settle():
            self._pending.add(rows, pid)
        self._flush()

    def _flush(self) -> None:
        """Write what was told and what was recorded."""
        self._write_told()
        rows, processes = self._pending.take()
        if not len(rows):
            return
        self._readings.moved += int(rows["bytes"].sum())
        self._write("events", self._batches.events(rows, processes))

    def _write(self, table: str, batch: pa.RecordBatch) -> None:
        """Append a batch, after the names and stacks that it refers to."""
        self._names.flush()
        if self._stacks.new:
            self._streams["stacks"].write_rows(self._stacks.new)
            self._stacks.new = []
        self._streams[table].write(batch)

    def phase(self, name: str, time_ns: int, edge: str, teller: Teller) -> None:
        """An edge of a phase: what happened up to it is written, and the truth is read, in which who is gone is not.

        On a GPU host an edge is when the devices were read, at once: other processes go on while the teller waits.
        """
        used, read_ns = self._read_devices()
        time_ns = read_ns if used else time_ns
        self._settle(by_ns=time_ns)
        if edge == "start":
            depth = sum(who == teller for who, _ in self._open_phases)
            start = time_ns - self._started_ns
            phase = {"name": name, "start_ns": start, "end_ns": None, "process": teller[0], "depth": depth}
            self._open_phases.append((teller, phase))
            self._streams["phases"].write_rows([phase])  # who follows the run knows it before it ends
        else:
            self._close_phase(name, time_ns, teller)
        self._readings.edge(used, time_ns, self._pids())

    def _close_phase(self, name: str, time_ns: int, teller: Teller) -> None:
        for who, phase in reversed(self._open_phases):
            if phase["name"] == name and who == teller:
                self._open_phases.remove((who, phase))
                self._streams["phases"].write_rows([phase | {"end_ns": time_ns - self._started_ns}])
                return

    def open_phase(self) -> dict[str, Any]:
        """The innermost phase that is open."""
        return {"phase": self._open_phases[-1][1]["name"]} if self._open_phases else {}

    def numbers(self, table: str, rows: list[list[int]]) -> None:
        """Rows of `tokens` or `steps`, which come often and have only numbers: they are written together."""
        self._told[table] += rows

    def _write_told(self) -> None:
        for table, rows in self._told.items():
            self._write(table, self._batches.numbers(CODED[table], rows))
        self._told.clear()

    def rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        """What an engine tells of itself: rows of `requests`."""
        for row in rows:
            for column, value in row.items():
                if column.endswith("_ns") and value is not None:
                    row[column] = value - self._started_ns
                elif isinstance(value, str):
                    row[column] = self._names.id(value)
        self._names.flush()
        self._streams[table].write_rows(rows)

    def _read_devices(self) -> tuple[list[int], int]:
        """Bytes in use on each GPU, and when that was."""
        used, now = self._devices.used(), time.monotonic_ns()
        self._unrecorded.see(now, used)
        return used, now

    def _pids(self) -> dict[int, Recorded | None]:
        """The recorded processes; one that has taken nothing large yet has no ring."""
        return dict.fromkeys(self._greeted) | {process.pid: process for process in self._processes.values()}

    def shortage(self, what: str, tier: str, time_ns: int) -> None:
        """Memory of a tier ran out: keep what was in use by owner then, and in which phase."""
        self._settle()
        self._keep_shortage(what, tier, time_ns)

    def _note_refusals(self, refused: Rows) -> None:
        for row in refused:
            owner, asked = self._names.text(int(row["owner"])), format_bytes(int(row["asked"]))
            if owner in TRY_AGAIN and row["layer"] == DRIVER:
                continue
            tier = schema.TIERS[int(row["tier"]) - 1]
            whom = f"GPU {row['device']}" if tier == "gpu" else "the host"
            self._keep_shortage(f"{owner} asked {whom} for {asked} and got none", tier, int(row["time_ns"]))

    def _keep_shortage(self, what: str, tier: str, time_ns: int) -> None:
        if len(self.shortages) < MOST_SHORTAGES:
            self.shortages.append({"what": what, "tier": tier, **self.open_phase(), **self.alive(time_ns)})

    def alive(self, time_ns: int) -> dict[str, Any]:
        """What was handed out and not given back at a moment, by tier and owner."""
        self._flush()
        names = self._names.texts()
        events = named(read_ordered(self.folder, "events", names), schema.EVENTS, names)
        moment = time_ns - self._started_ns
        ledgers = [Ledger.of(tier, moment, None, alive_by_owner(events, tier, moment)) for tier in schema.TIERS]
        return {
            "time_s": moment / 1e9,
            "alive": {ledger.tier: ledger.by_owner() for ledger in ledgers if ledger.entries},
        }

    @property
    def is_filling(self) -> bool:
        """Whether a process writes faster than the next tick can take."""
        return any(process.is_filling for process in self._processes.values())

    @property
    def lost(self) -> int:
        """Events that were dropped, in all processes."""
        return self._gone_lost + sum(process.lost for process in self._processes.values())

    @property
    def has_seen(self) -> bool:
        """Whether any process of the run showed itself."""
        return bool(self._greeted or self._processes)

    def notes(self) -> dict[str, Any]:
        """What a reader of the run should know of how it was recorded."""
        unknown = sum(process.live.unknown_frees for process in self._processes.values())
        return {"frees_of_memory_from_before": unknown} if unknown else {}

    def take_last(self) -> None:
        """Take the last records: nothing comes after."""
        self._settle(last=True)

    def seal(self) -> dict[str, int]:
        """End every stream, let go of the rings, and make the tables; returns the rows of each."""
        self._readings.last(*self._read_devices())
        self._names.close()
        for stream in self._streams.values():
            stream.close()
        for process in self._processes.values():
            process.close()
        return seal(self.folder)
