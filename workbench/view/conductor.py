"""An engine that a panel runs: loaded, asked and ended in threads of its own, so that the kernel stays free."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from workbench.config import EngineConfig, Workload
from workbench.errors import UsageError, WorkbenchError
from workbench.launch.session import Session
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.view.live import Live

UPDATE_S = 0.1  # between two updates of a page
IDLE, LOADING, READY, ANSWERING, ENDING = "idle", "loading", "ready", "answering", "ending"


@dataclass(frozen=True)
class Status:
    """What the engine does."""

    state: str = IDLE
    config: EngineConfig | None = None  # of the engine that is loaded, or being loaded
    tokens: int = 0  # of the present answer
    most: int = 0  # tokens of it, at most
    seconds: float = 0.0  # since the first of them
    error: str | None = None  # one line; why the last thing that was asked for did not happen

    @property
    def is_busy(self) -> bool:
        """Whether it can be asked for nothing but to stop."""
        return self.state in (LOADING, ANSWERING, ENDING)


class Conductor:
    """One session at a time. What it tells, it tells from its own threads, at most every `UPDATE_S`."""

    def __init__(
        self,
        store: Store | None,
        tell: Callable[[Status, str], None],
        tell_live: Callable[[Live], None],
        tell_run: Callable[[Run], None],
    ) -> None:
        self.status = Status()
        self.text = ""
        self.live: Live | None = None
        self._store = store
        self._tell, self._tell_live, self._tell_run = tell, tell_live, tell_run
        self._session: Session | None = None
        self._is_stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def answer(self, config: EngineConfig, workload: Workload, *, ends: bool) -> None:
        """Begin to answer under a config, by a new engine where none is loaded with it; `ends`: which then ends."""
        self._begin(lambda: self._answer(config, workload, ends))

    def end(self) -> None:
        """Begin to end the engine that is loaded; its run is kept."""
        self._begin(self._end)

    def stop(self) -> None:
        """End what is going on: an answer is cancelled, an engine that is being loaded is ended."""
        self._is_stopped.set()

    def close(self) -> None:
        """End everything, and wait for it."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._is_stopped.clear()
        self._end()

    def _begin(self, work: Callable[[], None]) -> None:
        """Refuses where something is going on already."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise WorkbenchError("the engine is busy: stop it first, or wait")
            self._is_stopped.clear()
            self._thread = threading.Thread(target=self._guarded, args=(work,), daemon=True, name="workbench panel")
            self._thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        """What goes wrong in a thread is the panel's to show."""
        try:
            work()
        except UsageError as error:
            if self.status.state == ANSWERING:  # the engine is as it was before it was asked
                self._say(replace(self.status, state=READY, error=str(error)))
            else:
                self._fail(str(error))
        except WorkbenchError as error:
            self._fail(" ".join(str(error).split()))
        except Exception as error:
            self._fail(f"{type(error).__name__}: {' '.join(str(error).split())}")

    def _fail(self, what: str) -> None:
        session, self._session = self._session, None
        if session is not None and session.is_begun:
            with suppress(WorkbenchError):
                session.__exit__(None, None, None)
        if self._is_stopped.is_set():
            self._say(Status())
            return
        if session is not None:
            self._keep(session)
        self._say(Status(error=what))

    def _answer(self, config: EngineConfig, workload: Workload, ends: bool) -> None:
        if self.status.config != config:
            self._end()
        if self._session is None:
            self._load(config)
        try:
            if not self._is_stopped.is_set():
                self._stream(workload)
        finally:
            if ends or self.status.state == LOADING:
                self._end()

    def _load(self, config: EngineConfig) -> None:
        self._say(Status(LOADING, config), "")
        session = Session(config, store=self._store)
        self._session = session
        threading.Thread(target=self._follow, args=(session,), daemon=True, name="workbench feed").start()
        session.__enter__()

    def _stream(self, workload: Workload) -> None:
        assert self._session is not None
        most = workload.max_tokens * len(workload.prompts)
        self._say(replace(self.status, state=ANSWERING, tokens=0, most=most, seconds=0.0, error=None), "")
        tokens = self._session.generate(workload, stream=True)
        told = first = time.monotonic()
        for token in tokens:
            now = time.monotonic()
            first = now if not self.status.tokens else first
            self.text += token.text
            self.status = replace(self.status, tokens=self.status.tokens + 1, seconds=now - first)
            if now - told >= UPDATE_S:
                self._say(self.status)
                told = now
            if self._is_stopped.is_set():
                break
        tokens.close()  # type: ignore[attr-defined]
        self._say(replace(self.status, state=READY))

    def _end(self) -> None:
        if self._session is None:
            return
        self._say(replace(self.status, state=ENDING))
        session, self._session = self._session, None
        try:
            session.__exit__(None, None, None)
        finally:
            self._keep(session)
        self._say(replace(self.status, state=IDLE, config=None))

    def _keep(self, session: Session) -> None:
        if session.run is not None:
            self._tell_run(session.run)

    def _follow(self, session: Session) -> None:
        """Tells what is being recorded for as long as the session is this one."""
        live, due = None, time.monotonic()
        while self._session is session:
            time.sleep(max(0.0, due - time.monotonic()))
            due = time.monotonic() + UPDATE_S
            if not session.is_begun:
                continue
            if self._is_stopped.is_set() and self.status.state == LOADING:
                session.stop()
            live = live or self._watch(session)
            with suppress(WorkbenchError, OSError):  # sealed while it was looked at
                if live.look():
                    self._tell_live(live)

    def _watch(self, session: Session) -> Live:
        self.live = Live(session.feed)
        return self.live

    def _say(self, status: Status, text: str | None = None) -> None:
        self.status = status
        self.text = self.text if text is None else text
        self._tell(status, self.text)


def told(status: Status) -> dict[str, Any]:
    """Gives a status as plain data."""
    shown = {name: value for name, value in vars(status).items() if name != "config"}
    return shown | {
        "busy": status.is_busy,
        "model": f"{status.config.engine}, {status.config.model}" if status.config else "",
    }
