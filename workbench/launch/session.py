"""An engine in a process of its own, that answers for as long as the session lasts, and leaves a run."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

from workbench.config import EngineConfig, Workload
from workbench.config.models import has_tokenizer, resolve
from workbench.engines import Piece, Token, environment, model_folder, refuse
from workbench.errors import EngineError, UsageError, WorkbenchError
from workbench.launch.channel import Channel, Message
from workbench.launch.endings import ending, largest_then
from workbench.launch.feed import Feed
from workbench.launch.processes import end_group
from workbench.launch.recording import Scribing, create
from workbench.launch.termination import exit_code, undisturbed
from workbench.recorder import outside
from workbench.recorder.settings import Settings
from workbench.run import manifest as manifests
from workbench.run.run import Run
from workbench.run.store import Store

CLOSES_WITHIN_S = 60.0  # an engine that was asked to; then it is ended
ENDS_WITHIN_S = 5.0  # a process that was asked to; then it is killed


@dataclass(frozen=True)
class Answer:
    """What an engine answered to one prompt."""

    prompt: str
    text: str
    tokens: tuple[int, ...]
    end: str | None  # stop | length; none: it was cancelled


class Session:
    """`with Session(config) as s: for token in s.generate("…", stream=True): …`; then `s.run` is what was recorded."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        name: str | None = None,
        store: Store | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.config = config
        self.run: Run | None = None
        self._name = name or f"{config.engine}-{Path(config.model).name}"
        self._store = store
        self._settings = settings or Settings()
        self._begun_in = os.getpid()
        self._is_begun = False
        self._is_loaded = False
        self._is_generating = False
        self._is_settled = True  # all that the engine tells of what it was asked has been read
        self._cancels = count(1)  # each has a number, so that its own answer is waited for
        self._ended_by: BaseException | None = None  # the first of what ended it, also where a second came meanwhile

    def __enter__(self) -> Session:
        """Starts the engine; it is loaded when this returns."""
        if self._is_begun:
            raise UsageError("a session is begun once: make another one")
        refuse(self.config)
        model_folder(self.config)  # fetched and converted before the run, not in it
        self._scribing = Scribing(create(self._name, self._store, config=self.config.to_dict()))
        self._channel, other = Channel.pair()
        with other:
            self._process = self._start(other.fileno())
        self._begun_in = os.getpid()
        self._is_begun = True
        try:
            self._expect("ready")
            self._is_loaded = True
            atexit.register(self._end, None)  # where nobody closes it
        except BaseException as error:
            self._end(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        had_ended = self.run is not None
        self._end(error)
        if self.run and not had_ended and not self._ended_by and self._process.returncode:
            raise _what_became_of(self.run)  # it died while it closed, or while nothing was asked of it

    @property
    def is_begun(self) -> bool:
        """Whether there is an engine's process and a feed to follow; it may not be loaded yet."""
        return self._is_begun

    def stop(self) -> None:
        """Ends the engine's process at once, from whichever thread: who waits for it is told that it ended."""
        if self._is_begun:
            self._refuse_forks()
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    @property
    def feed(self) -> Feed:
        """What is being recorded, live."""
        self._refuse_before()
        return Feed(self._scribing.folder)

    @overload
    def generate(
        self, prompts: str | Sequence[str] | Workload, *, stream: Literal[False] = False, **rules: Any
    ) -> list[Answer]: ...
    @overload
    def generate(
        self, prompts: str | Sequence[str] | Workload, *, stream: Literal[True], **rules: Any
    ) -> Iterator[Token]: ...
    def generate(
        self, prompts: str | Sequence[str] | Workload, *, stream: bool = False, **rules: Any
    ) -> list[Answer] | Iterator[Token]:
        """Answers prompts, by the rules of a `Workload`; with `stream` gives the tokens as they come out.

        A stream that is closed, dropped or interrupted cancels what is not answered yet. The engine waits for nobody
        who reads one.
        """
        workload = workload_of(prompts, rules)
        refuse_stops(self.config, workload)
        tokens = self._tokens(workload, stream)
        return tokens if stream else answers_of(workload, tokens)

    def _start(self, socket: int) -> subprocess.Popen[bytes]:
        """The engine's process leads a group of its own: a Ctrl-C of the terminal is the session's to answer."""
        folder = self._scribing.folder
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "workbench.launch.worker", str(folder), str(socket)],
                env=environment(self.config.engine)
                | os.environ
                | self._settings.environment(folder)
                | outside.environment(folder),
                pass_fds=[socket],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            what = f"the engine's process can not be started: {error}"
            self.run = self._scribing.finish(manifests.FAILED, EngineError.exit_code, what)
            self._channel.close()
            raise EngineError(what) from None

    def _tokens(self, workload: Workload, stream: bool) -> Iterator[Token]:
        self._refuse_before()
        self._refuse_forks()
        self._refuse_after()
        if self._is_generating:
            raise UsageError("this session is generating: read its stream to the end, or close it, before the next one")
        self._settle()
        try:
            self._is_generating, self._is_settled = True, False
            self._say({"do": "generate", "workload": workload.to_dict(), "stream": stream})
            while (message := self._expect("pieces", "done"))["is"] == "pieces":
                for written in message["pieces"]:
                    yield from Piece(*written).tokens()
            self._is_settled = True
        except UsageError:
            self._is_settled = True
            raise
        finally:
            self._is_generating = False
            self._settle()

    def _settle(self) -> None:
        """Cancels a workload that was left, if any, and reads what is still told of it: then the engine is free."""
        if self._is_settled or self.run is not None or self._is_forked():
            return
        number = next(self._cancels)
        self._say({"do": "cancel", "number": number})
        while not self._is_settled:
            with suppress(UsageError):  # it was refused before it was cancelled
                message = self._expect("pieces", "done", "cancelled")
                self._is_settled = message == {"is": "cancelled", "number": number}

    def _refuse_before(self) -> None:
        if not self._is_begun:
            raise UsageError("this session has not begun: use it in a `with` block")

    def _refuse_after(self) -> None:
        if self.run is not None:
            raise UsageError("this session has ended: begin another one")

    def _is_forked(self) -> bool:
        """Whether this process has but a copy of the session: its engine answers to the process that began it."""
        return os.getpid() != self._begun_in

    def _refuse_forks(self) -> None:
        if self._is_forked():
            what = f"this session is of process {self._begun_in}, and this one, {os.getpid()}, a fork of it"
            raise UsageError(f"{what}: begin another session here")

    def _say(self, message: Message) -> None:
        with suppress(OSError):  # that it is gone shows where its answer is waited for
            self._channel.send(message)

    def _expect(self, *kinds: str) -> Message:
        """The engine's next message, which must be one of these."""
        self._refuse_forks()  # it would be missed where it is waited for
        self._refuse_after()  # a stream of it may still be there
        message = self._channel.receive()
        if message is None or message["is"] == "failed":
            raise self._failed(message or {})
        if message["is"] == "refused":
            raise UsageError(message["what"])
        assert message["is"] in kinds, message
        return message

    def _failed(self, message: Message) -> WorkbenchError:
        """The engine is gone, or about to be: what the run says of it."""
        if message.get("code") == UsageError.exit_code:
            self._end(UsageError(message["what"]))
            return UsageError(message["what"])
        code = self._wait(ENDS_WITHIN_S)
        return _what_became_of(self._finish(code))

    def _end(self, error: BaseException | None) -> None:
        """Closes the engine and seals the run; after a failure both are done already, and in a fork not its to do."""
        if self.run is not None or self._is_forked():
            return
        self._ended_by = error = self._ended_by or error
        try:
            with undisturbed() if error else nullcontext():
                self._close(error)
        except BaseException as another:
            self._ended_by = error or another  # for whoever ends it then: the end of the program, at the latest
            raise

    def _close(self, error: BaseException | None) -> None:
        if self._is_loaded:
            self._say({"do": "close"})
            code = self._wait(CLOSES_WITHIN_S if error is None else ENDS_WITHIN_S)
        else:
            code = self._wait(0)
        if error is None:
            self._finish(code)
            return
        self.run = self._scribing.finish(manifests.FAILED, _exit_code(error), _line(error))
        if isinstance(error, KeyboardInterrupt | OSError):  # also where stdout takes no more
            error.add_note(f"the run is kept: {self.run.folder}")
        self._hang_up()

    def _finish(self, code: int) -> Run:
        status, error = ending(code, "the engine")
        self.run = self._scribing.finish(status, 128 - code if code < 0 else code, error)
        self._hang_up()
        return self.run

    def _hang_up(self) -> None:
        self._channel.close()
        atexit.unregister(self._end)

    def _wait(self, seconds: float) -> int:
        """Waits for the engine's process to end by itself, so long; none that it started is left."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return end_group(self._process, ENDS_WITHIN_S)


def _what_became_of(run: Run) -> EngineError:
    error = run.manifest.error or {}
    return EngineError(f"{error.get('what', 'the engine ended')}{largest_then(error)}; the run is kept: {run.folder}")


def _exit_code(error: BaseException) -> int:
    return exit_code(error) if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)


def _line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    return " ".join((str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}").split())


def workload_of(prompts: str | Sequence[str] | Workload, rules: dict[str, Any]) -> Workload:
    """Gives the workload of prompts and rules such as `max_tokens=64`."""
    if isinstance(prompts, Workload):
        if rules:
            raise UsageError(f"a workload has its rules in it: set {', '.join(rules)} there")
        return prompts
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping):
        raise UsageError(f"prompts are a text, several, or a Workload, not {prompts!r:.60}")
    several = (prompts,) if isinstance(prompts, str) else tuple(prompts)
    return Workload.from_dict({"prompts": several, **rules})


def refuse_stops(config: EngineConfig, workload: Workload) -> None:
    """Refuses texts to stop at where a model's answers have no text."""
    if workload.stop and not has_tokenizer(resolve(config.model)):
        raise UsageError(f"model {config.model!r} has no tokenizer, so no answer has a text to stop at: leave out stop")


def answers_of(workload: Workload, tokens: Iterator[Token]) -> list[Answer]:
    """Gives the answers that tokens add up to, one a prompt."""
    texts: list[list[str]] = [[] for _ in workload.prompts]
    ids: list[list[int]] = [[] for _ in workload.prompts]
    ends: list[str | None] = [None] * len(workload.prompts)
    for token in tokens:
        texts[token.request].append(token.text)
        ids[token.request].append(token.id)
        ends[token.request] = token.end
    parts = zip(workload.prompts, texts, ids, ends, strict=True)
    return [Answer(prompt, "".join(text), tuple(numbers), end) for prompt, text, numbers, end in parts]
