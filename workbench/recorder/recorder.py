"""The recorded process's side of a recording: starts the sources, and reports phases, tags and tokens to the scribe."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from workbench.errors import RunError, UsageError
from workbench.recorder.native import Spool
from workbench.recorder.probe import Copy, NullProbe, Probe, Step
from workbench.recorder.settings import SPOOL, Settings
from workbench.recorder.sources import Source, Unavailable, all_sources
from workbench.recorder.wire import Line
from workbench.run.sources import OFF

HELD = 256  # rows kept back before they are told, so that telling costs next to nothing,
MANY_HELD = 4096  # of what comes ten thousand times a second
HELD_NS = 500_000_000  # but none for longer than this


class Recorder:
    """The probe of a process that is recorded."""

    def __init__(self, folder: Path, settings: Settings, late: bool) -> None:
        self.folder = folder
        self._pid = os.getpid()
        self._has_ended = False
        self._is_asked_here = late
        self._lock = threading.RLock()
        self._line = Line(folder)
        self._spool = Spool()
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by table
        self._told_ns = time.monotonic_ns()
        self._tokens: list[tuple[int, int, int, int]] = []
        self._copies: list[Copy] = []
        self._last_copy: Copy | None = None  # that was told
        self._steps: list[Step] = []
        self._failed_in: str | None = None  # the innermost phase that an error left
        self.attached: list[Source] = []
        self._spool.open(folder / SPOOL, settings.threshold)
        limits = self._attach(settings, late)
        answer = self._line.ask("hello", pid=os.getpid(), sources=limits, late=late)
        self.is_first: bool = answer["first"]

    def reconnect(self) -> None:
        """Talk to the scribe over a line of one's own, and forget what the parent still had to tell."""
        self._lock = threading.RLock()
        self._rows.clear()
        self._tokens.clear()
        self._copies.clear()
        self._steps.clear()
        self._line = Line(self.folder)
        self._line.ask("hello", pid=os.getpid(), sources={}, forked=True)

    def _attach(self, settings: Settings, late: bool) -> dict[str, list[str]]:
        """Start every source that can be; returns what each of them can not see."""
        limits: dict[str, list[str]] = {}
        for source in all_sources(settings, self.ran_out):
            try:
                limits[source.name] = source.attach(self._spool, late)
                self.attached.append(source)
            except Unavailable as error:
                limits[source.name] = [OFF + str(error)]
        return limits | {name: [f"{OFF}left out on request"] for name in settings.without}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A named interval of the run; at both its edges the ledger is held to the truth."""
        self._edge(name, "start")
        try:
            yield
        except BaseException:
            self._failed_in = self._failed_in or name
            raise
        finally:
            self._edge(name, "end")

    def _edge(self, name: str, edge: str) -> None:
        self._flush()
        self._tell_rows()
        thread = threading.get_ident()
        self._say(
            self._line.ask, "phase", name=name, time_ns=time.monotonic_ns(), edge=edge, pid=os.getpid(), thread=thread
        )

    def _flush(self) -> None:
        """Hand over what the sources have seen, and what has stopped them: a full disk, most likely."""
        for source in self.attached:
            source.flush()
        if error := self._spool.error():
            self._say(self._line.tell, "stopped", error=error)

    def _say(self, how: Callable[..., object], do: str, **message: Any) -> None:
        """Speak to the scribe. Where it is gone the recording has ended, and the program goes on.

        That is told by whoever asked for the recording, at its end: here, where this process did.
        """
        if self._has_ended:
            return
        try:
            with self._lock:
                how(do, **message)
        except RunError as error:
            self._has_ended = True
            self._spool.close()
            if self._is_asked_here:
                print(f"workbench: {error}", file=sys.stderr)

    def tag(self, name: str) -> AbstractContextManager[None]:
        """What the memory that this thread asks for inside the block is for."""
        return self._spool.tagged(name)

    def tokens(self, request: int, position: int, count: int = 1) -> None:
        """That `count` tokens of a request's output came out now, the first of them at `position`."""
        # An engine says this ten thousand times a second: a tuple in a list, and no lock, for appending is one step.
        now = time.monotonic_ns()
        self._tokens.append((now, request, position, count))
        if len(self._tokens) >= MANY_HELD or now - self._told_ns > HELD_NS:
            self._tell_rows()

    def request(self, **facts: int | str | None) -> None:
        """That a request has ended: the columns of the run's table `requests`, with times on the one clock."""
        self._keep("requests", facts)

    def step(self, step: Step) -> None:
        """That a forward pass has ended."""
        self._steps.append(step)
        if len(self._steps) >= HELD or step.end_ns - self._told_ns > HELD_NS:
            self._tell_rows()

    def telling(self) -> int:
        """Gives where native code learns which byte keeps hooks from telling of copies; 0 where CUPTI does anyway."""
        return 0 if self._has_cupti else self._spool.telling

    def copy(self, copy: Copy) -> None:
        """That a copy is over which was submitted as `telling` says."""
        if self._has_cupti or copy is self._last_copy:  # a Ctrl-C came while it was told
            return
        self._last_copy = copy
        self._copies.append(copy)
        if len(self._copies) >= MANY_HELD or time.monotonic_ns() - self._told_ns > HELD_NS:
            self._tell_rows()

    @functools.cached_property
    def _has_cupti(self) -> bool:
        return any(source.name == "copies" for source in self.attached)

    def _keep(self, table: str, row: Mapping[str, int | str | None]) -> None:
        with self._lock:
            self._rows[table].append(dict(row))
        if len(self._rows[table]) >= HELD or time.monotonic_ns() - self._told_ns > HELD_NS:
            self._tell_rows()

    def _tell_rows(self) -> None:
        with self._lock:
            held, self._rows = self._rows, defaultdict(list)
            tokens, self._tokens = self._tokens, []
            copies, self._copies = self._copies, []
            steps, self._steps = self._steps, []
            self._told_ns = time.monotonic_ns()
        for table, rows in held.items():
            self._say(self._line.tell, "rows", table=table, rows=rows)
        if steps:
            self._say(self._line.tell, "numbers", table="steps", rows=steps)
        if tokens:
            self._say(self._line.tell, "numbers", table="tokens", rows=tokens)
        if copies:
            self._spool.write_copies(copies)

    def facts(self, what: str, values: dict[str, object]) -> None:
        """What the engine says of itself that no event shows; kept in the run's manifest under `what`."""
        self.note(what, values)

    def note(self, key: str, value: object) -> None:
        """Keep a fact about the run in its manifest."""
        self._say(self._line.tell, "note", key=key, value=value)

    def workload(self, asked: dict[str, object]) -> None:
        """What the engine is asked from now on: prompts and rules; kept in the run's manifest."""
        self._say(self._line.tell, "workload", asked=asked)

    def outputs(self, texts: list[str]) -> None:
        """What the engine answered to a workload; kept in the run's manifest behind what it answered before."""
        self._say(self._line.tell, "outputs", texts=texts)

    def failure(self, what: str) -> None:
        """Why this process is about to end, in better words than its exit code, while it still holds its memory."""
        self._flush()
        self._say(self._line.ask, "failure", what=what, phase=self._failed_in, time_ns=time.monotonic_ns())

    def ran_out(self, what: str, tier: str) -> None:
        """That memory of a tier ran out: what was alive then is kept in the manifest."""
        self._flush()
        self._say(self._line.ask, "shortage", what=what, time_ns=time.monotonic_ns(), tier=tier)

    def finish(self, status: str, error: str | None = None) -> None:
        """End the recording from inside: the run is sealed when this returns."""
        if os.getpid() == self._pid:  # not in a fork that leaves the recording's block: the run is its parent's
            self.leave()
            self._say(self._line.ask, "finish", status=status, error=error)
        self._line.close()

    def leave(self) -> None:
        """Stop the sources, with all that they saw handed over."""
        self._flush()
        self._tell_rows()
        limits = {source.name: source.detach() for source in reversed(self.attached)}
        self._say(self._line.tell, "leave", pid=os.getpid(), sources=limits)
        self._spool.close()
        self.attached = []


_current: Recorder | None = None
_NULL = NullProbe()


def current() -> Probe:
    """The probe of this process: one that does nothing where nobody records it."""
    return _current or _NULL


def phase(name: str) -> AbstractContextManager[None]:
    """A named interval of the run that this process is recorded into; nothing where nobody records it."""
    return current().phase(name)


def tag(name: str) -> AbstractContextManager[None]:
    """What the memory that this thread asks for inside the block is for; nothing where nobody records it."""
    return current().tag(name)


def use(make: Callable[[], Recorder] | None) -> Recorder | None:
    """Make a recorder the one of this process, or with None leave it without one."""
    global _current
    if make is not None:
        refuse_twice()
        _follow_forks()
    _current = make() if make else None
    return _current


@functools.cache
def _follow_forks() -> None:
    os.register_at_fork(after_in_child=_rejoin)


def refuse_twice() -> None:
    """Refuses to go on where this process is being recorded."""
    if _current is not None:
        raise UsageError(f"this process is being recorded into {_current.folder.name} already")


def join(folder: str) -> None:
    """Record this process, which a recorded one started, into the same run."""
    with suppress(RunError):  # the recording has ended meanwhile; the program goes on
        use(lambda: Recorder(Path(folder), Settings.from_environment(), late=False))
        if _current is not None and _current.is_first:
            program = _current.phase("program")
            program.__enter__()
            atexit.register(_leave, program)
        else:
            atexit.register(_leave, nullcontext())


def _rejoin() -> None:
    """A forked child has its parent's line: it takes one of its own. The sources follow a fork by themselves."""
    if _current is not None:
        try:
            _current.reconnect()
        except RunError:
            use(None)


def _leave(program: AbstractContextManager[None]) -> None:
    """At the end of the process: an edge, while all that it holds is still there."""
    with suppress(RunError):
        program.__exit__(None, None, None)
        if _current is not None:
            _current.leave()
