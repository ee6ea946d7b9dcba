"""Registered host memory moves between the tiers, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.recorder.live import Live
from workbench.recorder.native import ALLOC, DRIVER, FREE, HOST, PAGEABLE, PINNED, RANGE, REGISTERED
from workbench.recorder.rows import ROW, Rows

TORCH = 3


def event(time_ns: int, kind: int, layer: int, address: int, size: int = 0, owner: int = TORCH) -> Rows:
    row = np.zeros(1, ROW)
    row["time_ns"], row["kind"], row["layer"], row["address"] = time_ns, kind, layer, address
    row["bytes"] = row["asked"] = size
    row["owner"] = owner if kind == ALLOC else 0
    row["tier"] = PAGEABLE if layer == HOST else PINNED
    row["flags"] = REGISTERED if layer == DRIVER and kind == ALLOC else 0
    return row


def taken(time_ns: int, address: int, size: int) -> Rows:
    return event(time_ns, ALLOC, HOST, address, size)


def given_back(time_ns: int, address: int, size: int) -> Rows:
    return event(time_ns, FREE, HOST, address, size)


def unmapped(time_ns: int, address: int, size: int) -> Rows:
    free = given_back(time_ns, address, size)
    free["flags"] = RANGE
    return free


def registered(time_ns: int, address: int, size: int) -> Rows:
    return event(time_ns, ALLOC, DRIVER, address, size, owner=9)


def unregistered(time_ns: int, address: int) -> Rows:
    return event(time_ns, FREE, DRIVER, address)


def in_use(rows: Rows) -> dict[int, int]:
    """Bytes by tier after these events."""
    sign = np.where(rows["kind"] == ALLOC, 1, -1) * rows["bytes"].astype(np.int64)
    return {tier: int(sign[rows["tier"] == tier].sum()) for tier in (PAGEABLE, PINNED)}


@pytest.mark.parametrize("at_once", [True, False])
def test_it_is_pinned_while_it_is_registered_and_pageable_again_after(at_once: bool) -> None:
    steps = [taken(1, 0x1000, 100), registered(2, 0x1010, 50), unregistered(3, 0x1010), given_back(4, 0x1000, 100)]
    expected = [(100, 0), (50, 50), (100, 0), (0, 0)]
    live, written = Live(), []
    for count, step in enumerate(steps, start=1):
        if at_once:
            everything = Live().apply(np.concatenate(steps[:count]))
        else:
            written.append(live.apply(step))
            everything = np.concatenate(written)
        assert in_use(everything) == dict(zip((PAGEABLE, PINNED), expected[count - 1], strict=True))
        assert set(everything["owner"][everything["tier"] == PAGEABLE]) == {TORCH}
    assert live.unknown_frees == 0
    assert not len(live.rows)


def test_several_parts_of_one_allocation_and_one_over_several_allocations() -> None:
    live = Live()
    steps = [taken(1, 100, 100), taken(1, 200, 100), registered(2, 110, 10), registered(3, 150, 100)]
    found = live.apply(np.concatenate(steps))
    assert in_use(found) == {PAGEABLE: 90, PINNED: 110}
    found = np.concatenate([found, live.apply(np.concatenate([unregistered(4, 150), unregistered(5, 110)]))])
    assert in_use(found) == {PAGEABLE: 200, PINNED: 0}
    assert sorted((int(row["address"]), int(row["bytes"])) for row in live.rows) == [(100, 100), (200, 100)]


def test_given_back_while_it_is_registered() -> None:
    live = Live()
    found = live.apply(np.concatenate([taken(1, 100, 100), registered(2, 120, 10), given_back(3, 100, 100)]))
    assert in_use(found) == {PAGEABLE: 0, PINNED: 10}
    assert in_use(np.concatenate([found, live.apply(unregistered(4, 120))])) == {PAGEABLE: 0, PINNED: 0}


def test_a_part_is_unmapped_while_another_is_registered() -> None:
    live, written = Live(), []
    steps = [taken(1, 100, 100), registered(2, 120, 10), unmapped(3, 100, 10), unregistered(4, 120)]
    for step, expected in zip(steps, [(100, 0), (90, 10), (80, 10), (90, 0)], strict=True):
        written.append(live.apply(step))
        assert in_use(np.concatenate(written)) == dict(zip((PAGEABLE, PINNED), expected, strict=True))
    assert [(int(row["address"]), int(row["bytes"])) for row in live.rows] == [(110, 90)]
    assert live.unknown_frees == 0


def test_a_range_is_unmapped_that_reaches_over_what_is_registered() -> None:
    live = Live()
    steps = [taken(1, 60, 30), taken(1, 100, 100), registered(2, 120, 10), unmapped(3, 50, 150)]
    found = live.apply(np.concatenate(steps))
    assert in_use(found) == {PAGEABLE: 0, PINNED: 10}
    assert in_use(np.concatenate([found, live.apply(unregistered(4, 120))])) == {PAGEABLE: 0, PINNED: 0}
    assert not len(live.rows)
    assert live.unknown_frees == 0


def test_memory_that_nobody_recorded_is_pinned_all_the_same() -> None:
    assert in_use(Live().apply(registered(1, 0x5000, 64))) == {PAGEABLE: 0, PINNED: 64}


SPANS = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 30)), max_size=6)


@given(SPANS, st.randoms(use_true_random=False))
def test_nothing_is_lost_in_any_order(spans: list[tuple[int, int]], random: object) -> None:
    """Registrations that do not overlap, ended in any order: pageable and pinned add up to what was taken."""
    free = [span for i, span in enumerate(spans) if not any(_overlap(span, other) for other in spans[:i])]
    free = [(start, min(size, 100 - start)) for start, size in free if start < 100]
    steps = [taken(0, 1000, 100)] + [registered(i + 1, 1000 + a, n) for i, (a, n) in enumerate(free)]
    ends = [unregistered(50, 1000 + a) for a, _ in free]
    random.shuffle(ends)  # type: ignore[attr-defined]
    live, written = Live(), []
    for step in [*steps, *ends]:
        written.append(live.apply(step))
        both = in_use(np.concatenate(written))
        assert both[PAGEABLE] + both[PINNED] == 100
        assert min(both.values()) >= 0
    assert both == {PAGEABLE: 100, PINNED: 0}


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]
