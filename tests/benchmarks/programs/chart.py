"""A recorded generation with a live chart of it and without: workbench record -- python chart.py PAIRS STEPS ENGINE

The chart is drawn by a notebook's kernel, a process of its own that is not recorded, as the panel draws it. In windows
of so many steps it works or stands still, by chance of each pair. Prints the seconds of each pair's windows, with and
without, the looks and the messages to the page a second, and the shares of a core of the kernel and of the scribe,
also without the chart.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jupyter_client.manager import start_new_kernel
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from tests.benchmarks.programs.steps import WARM_UP, pieces, processor_seconds, scribe_of, step_seconds
from workbench.engines.base import Piece
from workbench.recorder.recorder import current
from workbench.recorder.settings import FOLLOWED, SPOOL

Taken = npt.NDArray[np.float64]
FOLLOWING = """
from threading import Thread
from time import monotonic, sleep
from workbench.launch.feed import Feed
from workbench.view.conductor import UPDATE_S
from workbench.view.live import Live
from workbench.view.panel import Panel

panel, live = Panel(), Live(Feed({!r}))

def follow():
    with open({!r}, "ab", buffering=0) as told:
        due = monotonic()
        while True:
            sleep(max(0.0, due - monotonic()))
            due = monotonic() + UPDATE_S
            news = live.look()
            if news:
                panel._show_live(live)
            told.write(b"!" if news else b".")

Thread(target=follow, daemon=True).start()
"""


class Chart:
    """Turns on and off a live chart of this process in a kernel of its own, as the panel has it."""

    def __init__(self) -> None:
        self._run = Path(os.environ["WORKBENCH_RUN"])
        unrecorded = {key: os.environ[key] for key in os.environ if not key.startswith(("LD_PRELOAD", "WORKBENCH_"))}
        self._manager, self._client = start_new_kernel(env=unrecorded)
        assert isinstance(self._manager.provisioner, LocalProvisioner)
        assert self._manager.provisioner.pid is not None
        self._kernel, self._scribe = self._manager.provisioner.pid, scribe_of(str(self._run))
        self._looks = self._run / SPOOL / "looks"  # a byte each, ! where there was something to tell the page
        self._client.execute_interactive(FOLLOWING.format(str(self._run), str(self._looks)), timeout=60)

    def turn(self, on: bool) -> None:
        """Where the chart stands still, nobody follows the run."""
        os.kill(self._kernel, signal.SIGCONT if on else signal.SIGSTOP)
        if not on:
            (self._run / SPOOL / FOLLOWED).unlink(missing_ok=True)

    def taken(self) -> Taken:
        """By now: the time, the kernel's and the scribe's processor seconds, the looks, and the messages."""
        work = processor_seconds(self._kernel), processor_seconds(self._scribe)
        looks = self._looks.read_bytes()
        return np.array([time.perf_counter(), *work, len(looks), looks.count(b"!")])

    def end(self) -> None:
        """The kernel too; one that stands still ends as well."""
        self._client.stop_channels()
        os.kill(self._kernel, signal.SIGKILL)
        self._manager.shutdown_kernel(now=True)


def windows(
    chart: Chart, stream: Iterator[Piece], pairs: int, steps: int
) -> tuple[list[list[float]], dict[bool, Taken]]:
    """The seconds of neighbouring windows, with the chart and without; and what both took in all of them."""
    order, took = random.Random(0), []
    taken: dict[bool, Taken] = {True: np.zeros(5), False: np.zeros(5)}
    for _ in range(pairs):
        seconds = {}
        for on in order.sample((True, False), 2):
            chart.turn(on)
            before = chart.taken()
            seconds[on] = sum(step_seconds(stream) for _ in range(steps))
            taken[on] += chart.taken() - before
        took.append([seconds[True], seconds[False]])
    return took, taken


def main(pairs: int, steps: int, name: str) -> None:
    """Generate, a window with the chart, a window without."""
    stream = pieces(name, current(), WARM_UP + pairs * steps * 2)
    for _ in range(WARM_UP):
        step_seconds(stream)
    chart = Chart()
    try:
        took, taken = windows(chart, stream, pairs, steps)
    finally:
        chart.end()
    (_, kernel, scribe, looks, messages), (_, _, alone, *_) = (taken[on] / taken[on][0] for on in (True, False))
    shares = {"kernel_share": kernel, "scribe_share": scribe, "scribe_share_alone": alone}
    print(json.dumps({"pairs": took, "looks_per_s": looks, "messages_per_s": messages} | shares))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
