"""A generation that is recorded and not, in turn: workbench record -- python steps.py PAIRS WINDOW ENGINE [--scribe]

Neighbouring windows of WINDOW steps see the same machine, so that what recording costs shows through its noise. Of each
pair chance decides which is recorded: what grows from step to step, and what comes again with every answer, falls out.
With `--scribe` the
scribe too stands still while nothing is recorded. Prints the seconds of each pair's windows, recorded and plain, and
what the scribe took of the processor.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path

from workbench.config import EngineConfig, Workload
from workbench.engines import engine
from workbench.engines.base import Token
from workbench.record.native import library
from workbench.record.probe import Copy, NullProbe, Probe, Step
from workbench.record.recorder import current

WARM_UP = 32  # steps
ANSWER = 256  # tokens
NOTHING = (1 << 64) - 1


class Switch:
    """The probe of this process, or none. It tells no phases: their edges wait for a scribe that may stand still."""

    def __init__(self) -> None:
        self.probe: Probe = NullProbe()

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def tag(self, name: str) -> AbstractContextManager[None]:
        return self.probe.tag(name)

    def tokens(self, request: int, position: int, count: int = 1) -> None:
        self.probe.tokens(request, position, count)

    def request(self, **facts: int | str | None) -> None:
        self.probe.request(**facts)

    def step(self, step: Step) -> None:
        self.probe.step(step)

    def telling(self) -> AbstractContextManager[None]:
        return self.probe.telling()

    def copy(self, copy: Copy) -> None:
        self.probe.copy(copy)

    def facts(self, what: str, values: dict[str, object]) -> None: ...


class Recording:
    """Turns on and off what records this process."""

    def __init__(self, with_scribe: bool) -> None:
        self.switch = Switch()
        self._threshold = int(os.environ["WORKBENCH_THRESHOLD"])
        self._scribe = scribe_of(os.environ["WORKBENCH_RUN"])
        self._stops_scribe = with_scribe

    def set(self, on: bool) -> None:
        library().wb_record_from(self._threshold if on else NOTHING)
        self.switch.probe = current() if on else NullProbe()
        if self._stops_scribe:
            os.kill(self._scribe, signal.SIGCONT if on else signal.SIGSTOP)

    def scribe_seconds(self) -> float:
        """Processor seconds that the scribe has taken."""
        fields = Path(f"/proc/{self._scribe}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scribe_of(run: str) -> int:
    """The process that writes this run."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"workbench.record.scribe" in command and os.fsencode(run) in command:
            return int(path.parent.name)
    raise SystemExit("the scribe is not there: start this with `workbench record`")


def tokens(name: str, switch: Switch, needed: int) -> Iterator[Token]:
    """As many tokens as are needed, in answers one after the other."""
    running = engine(name)()
    config = EngineConfig(engine=name).with_setting("limits.max_sequences", "1").with_setting("graphs", "none")
    running.load(config.with_setting("limits.max_length", "1024"), switch)
    prompts = ("Count the stars.",) * (needed // (ANSWER - 2) + 1)
    answers = chain.from_iterable(running.generate(Workload(prompts=prompts, max_tokens=ANSWER, stop_at_end=False)))
    return (token for token in answers if token.position)  # a prompt takes longer than a step


def window_seconds(stream: Iterator[Token], steps: int) -> float:
    """Of that many steps; the prompts between them are not counted."""
    seconds, counted = 0.0, 0
    while counted < steps:
        start = time.perf_counter()
        if next(stream).position > 1:
            seconds += time.perf_counter() - start
            counted += 1
    return seconds


def main(pairs: int, window: int, name: str, with_scribe: bool) -> None:
    """Generate, a window recorded, a window not."""
    recording = Recording(with_scribe)
    stream = tokens(name, recording.switch, WARM_UP + pairs * window * 2)
    window_seconds(stream, WARM_UP)
    took: list[list[float]] = []  # recorded, plain
    begin, cpu = time.perf_counter(), recording.scribe_seconds()
    order = random.Random(0)
    for _ in range(pairs):
        seconds = {}
        for on in order.sample((True, False), 2):
            recording.set(on)
            seconds[on] = window_seconds(stream, window)
        took.append([seconds[True], seconds[False]])
    recording.set(True)
    elapsed = time.perf_counter() - begin
    print(json.dumps({"pairs": took, "scribe_share": (recording.scribe_seconds() - cpu) / elapsed}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], "--scribe" in sys.argv)
