"""A generation of which single steps are recorded: workbench record -- python steps.py PAIRS ENGINE

Neighbouring steps see the same machine, so that what the hooks cost shows through its noise. Of each pair chance
decides which is recorded: what grows from step to step, and what comes again with every answer, falls out. Then as many
steps are all recorded, for the scribe's work. Prints the seconds of each pair's steps, recorded and plain, and the
share of a core that the scribe took meanwhile.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path

from workbench.config import EngineConfig, Workload
from workbench.engines import engine
from workbench.engines.base import Piece
from workbench.recorder.native import library
from workbench.recorder.probe import Copy, NullProbe, Probe, Step
from workbench.recorder.recorder import current

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

    def telling(self) -> int:
        return self.probe.telling()

    def copy(self, copy: Copy) -> None:
        self.probe.copy(copy)

    def facts(self, what: str, values: dict[str, object]) -> None: ...


class Recording:
    """Turns on and off what records this process."""

    def __init__(self) -> None:
        self.switch = Switch()
        self._threshold = int(os.environ["WORKBENCH_THRESHOLD"])
        self._scribe = scribe_of(os.environ["WORKBENCH_RUN"])

    def set(self, on: bool) -> None:
        library().wb_record_from(self._threshold if on else NOTHING)
        self.switch.probe = current() if on else NullProbe()

    def scribe_seconds(self) -> float:
        """Processor seconds that the scribe has taken."""
        return processor_seconds(self._scribe)


def processor_seconds(pid: int) -> float:
    """What a process has taken of the processors, in all its threads."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def scribe_of(run: str) -> int:
    """The process that writes this run."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"workbench.recorder.scribe" in command and os.fsencode(run) in command:
            return int(path.parent.name)
    raise SystemExit("the scribe is not there: start this with `workbench record`")


def pieces(name: str, probe: Probe, needed: int) -> Iterator[Piece]:
    """As many pieces, of a token each, as are needed, in answers one after the other."""
    running = engine(name)()
    config = EngineConfig(engine=name).with_setting("limits.max_sequences", "1").with_setting("graphs", "none")
    running.load(config.with_setting("limits.max_length", "1024"), probe)
    prompts = ("Count the stars.",) * (needed // (ANSWER - 2) + 1)
    answers = chain.from_iterable(running.generate(Workload(prompts=prompts, max_tokens=ANSWER, stop_at_end=False)))
    return (piece for piece in answers if piece.position)  # a prompt takes longer than a step


def step_seconds(stream: Iterator[Piece]) -> float:
    """Of one step; a prompt before it is not counted."""
    while True:
        start = time.perf_counter()
        if next(stream).position > 1:
            return time.perf_counter() - start


def in_turn(recording: Recording, stream: Iterator[Piece], pairs: int) -> list[list[float]]:
    """The seconds of neighbouring steps, recorded and plain."""
    order, took = random.Random(0), []
    for _ in range(pairs):
        seconds = {}
        for on in order.sample((True, False), 2):
            recording.set(on)
            seconds[on] = step_seconds(stream)
        took.append([seconds[True], seconds[False]])
    recording.set(True)
    return took


def scribe_share(recording: Recording, stream: Iterator[Piece], steps: int) -> float:
    """What the scribe takes of a core while every step is recorded."""
    begin, cpu = time.perf_counter(), recording.scribe_seconds()
    for _ in range(steps):
        step_seconds(stream)
    return (recording.scribe_seconds() - cpu) / (time.perf_counter() - begin)


def main(pairs: int, name: str) -> None:
    """Generate, and say what the hooks and the scribe took."""
    recording = Recording()
    stream = pieces(name, recording.switch, WARM_UP + pairs * 4)
    for _ in range(WARM_UP):
        step_seconds(stream)
    took = in_turn(recording, stream, pairs)
    print(json.dumps({"pairs": took, "scribe_share": scribe_share(recording, stream, pairs * 2)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
