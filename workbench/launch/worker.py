"""The engine's process: loads the engine of the run's config, and answers workloads until its session ends.

`python -m workbench.launch.worker FOLDER SOCKET`, started by `session` in an environment that records it.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from workbench.config import EngineConfig, Workload
from workbench.engines import Engine, engine
from workbench.errors import UsageError, WorkbenchError
from workbench.launch.channel import Channel, Message, Sender
from workbench.recorder import outside
from workbench.recorder.probe import Probe
from workbench.recorder.recorder import Recorder, current
from workbench.run.manifest import Manifest

TOGETHER_S = 0.005  # pieces that come out within this time are told together


class Worker:
    """An engine, and the session that gives it orders."""

    def __init__(self, channel: Channel, probe: Probe) -> None:
        self._channel = channel
        self._sender = Sender(channel)  # the engine waits for nobody who reads its tokens
        self._probe = probe
        self._orders: queue.Queue[Message] = queue.Queue()
        self._is_cancelled = threading.Event()
        self._asked = 0  # requests so far
        threading.Thread(target=self._listen, daemon=True).start()

    def serve(self, config: EngineConfig) -> None:
        """Loads the engine, then carries out orders until there are no more."""
        try:
            with closing(engine(config.engine)()) as running:
                self._run(running, config)
        finally:
            self._sender.finish()

    def _run(self, running: Engine, config: EngineConfig) -> None:
        try:
            running.load(config, self._probe)
            outside.claim_mapped_memory()
            self._sender.tell({"is": "ready"})
            while (order := self._orders.get())["do"] != "close":
                self._carry_out(order, running)
        except BaseException as error:
            self._fail(error)  # before the engine gives back what it holds
            raise

    def _listen(self) -> None:
        """Takes orders while the engine works. Where the session is gone the engine is nobody's."""
        try:
            while message := self._channel.receive():
                if message["do"] == "generate":
                    self._is_cancelled.clear()
                else:
                    self._is_cancelled.set()
                if message["do"] == "close":
                    self._sender.give_up()
                self._orders.put(message)
        finally:
            os.killpg(os.getpgrp(), signal.SIGTERM)  # with whatever processes the engine started

    def _carry_out(self, order: Message, running: Engine) -> None:
        if order["do"] == "generate":
            self._answer(running, order["workload"], order["stream"])
        else:
            self._sender.tell({"is": "cancelled", "number": order["number"]})

    def _answer(self, running: Engine, asked: dict[str, Any], stream: bool) -> None:
        workload, first = Workload.from_dict(asked), self._asked
        try:
            with closing(running.generate(workload, first, stream)) as steps:  # type: ignore[type-var]
                if isinstance(self._probe, Recorder):
                    self._probe.workload(asked)  # it was not refused, so its requests have numbers
                self._tell(steps, first, len(workload.prompts))
        except UsageError as error:
            self._sender.tell({"is": "refused", "what": str(error)})
            return
        self._asked += len(workload.prompts)
        self._sender.tell({"is": "done"})

    def _tell(self, steps: Any, first: int, requests: int) -> None:
        """Tells pieces as they come out; keeps the texts in the run."""
        texts = [""] * requests
        held: list[tuple[Any, ...]] = []
        told = time.monotonic()
        for pieces in steps:
            for piece in pieces:
                texts[piece.request - first] += piece.text
                held.append((piece.request - first, *piece[1:]))
            if held and (now := time.monotonic()) - told > TOGETHER_S:
                self._sender.tell({"is": "pieces", "pieces": held})
                held, told = [], now
            if self._is_cancelled.is_set():
                break
        self._sender.tell({"is": "pieces", "pieces": held})
        if isinstance(self._probe, Recorder):
            self._probe.outputs(texts)

    def _fail(self, error: BaseException) -> None:
        what = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        line = " ".join(what.split())
        if isinstance(self._probe, Recorder):
            self._probe.failure(line)
        self._sender.tell({"is": "failed", "what": line, "code": getattr(error, "exit_code", 1)})


def main() -> int:
    """Work. What goes wrong has been told when this returns."""
    config = EngineConfig.from_dict(Manifest.read(Path(sys.argv[1])).config or {})
    channel = Channel(socket.socket(fileno=int(sys.argv[2])))
    try:
        Worker(channel, current()).serve(config)
    except WorkbenchError as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
