"""When what fails began: with the first process that was cut off, not long before."""

from __future__ import annotations

import os

from workbench.recorder.departures import LATELY_NS, Departures

GONE = 1 << 22  # from here on no process is numbered


def test_the_first_that_was_cut_off_lately_is_why() -> None:
    departures, now = Departures(), 10 * LATELY_NS
    cut_off = {GONE: now - 2 * LATELY_NS, GONE + 1: now - 5, GONE + 2: now - 9, os.getpid(): now - 20}
    for pid in (*cut_off, GONE + 3):
        departures.expect(pid)
    departures.leave(GONE + 3)
    assert departures.first(now, {}) == now
    for pid, time_ns in (cut_off | {GONE + 3: now - 30, GONE + 4: now - 40}).items():
        departures.hang_up(pid, time_ns)
    assert departures.first(now, {}) == now - 9
    assert departures.first(now, {GONE + 1: now - 15}) == now - 16, "its memory was taken for given back before"
    assert departures.first(now - 7, {GONE + 1: now}) == now - 9
