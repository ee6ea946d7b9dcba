from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.recorder.live import Live
from workbench.recorder.native import ALLOC, ALLOCATOR, FREE, HOST, PAGEABLE, RANGE
from workbench.recorder.rows import ROW, Rows


def rows(*made: tuple[int, int, int, int], **known: Any) -> Rows:
    """Rows of (time, kind, address, bytes)."""
    out = np.zeros(len(made), ROW)
    out["layer"], out["tier"], out["device"] = HOST, PAGEABLE, -1
    for name, value in known.items():
        out[name] = value
    for place, (time_ns, kind, address, size) in enumerate(made):
        out[place]["time_ns"], out[place]["kind"] = time_ns, kind
        out[place]["address"], out[place]["bytes"], out[place]["asked"] = address, size, size
    return out


def told(written: Rows) -> list[tuple[int, int, int, int]]:
    """What went into the run, as (time, kind, address, bytes)."""
    return [tuple(int(row[field]) for field in ("time_ns", "kind", "address", "bytes")) for row in written]  # type: ignore[misc]


def in_use(live: Live) -> int:
    return int(live.rows["bytes"].sum())


def test_a_free_takes_what_its_allocation_knew() -> None:
    live = Live()
    live.apply(rows((1, ALLOC, 0x100, 50), owner=7, tag=3, stack=9))
    free = live.apply(rows((2, FREE, 0x100, 50)))
    assert (free[0]["owner"], free[0]["tag"], free[0]["asked"]) == (7, 3, 50)
    assert in_use(live) == 0


def test_an_address_used_again_within_one_batch_pairs_in_time() -> None:
    live = Live()
    made = rows((1, ALLOC, 1, 10), (2, FREE, 1, 10), (3, ALLOC, 1, 20), (4, FREE, 1, 20), (5, ALLOC, 1, 30))
    assert told(live.apply(made)) == told(made)
    assert in_use(live) == 30


def test_a_free_of_memory_from_before_is_left_out_and_counted() -> None:
    live = Live()
    assert told(live.apply(rows((1, FREE, 0x500, 8), (2, ALLOC, 0x900, 4)))) == [(2, ALLOC, 0x900, 4)]
    assert live.unknown_frees == 1


def test_an_allocation_over_one_in_use_frees_it_first() -> None:
    live = Live()
    live.apply(rows((1, ALLOC, 0x100, 50)))
    again = live.apply(rows((5, ALLOC, 0x900, 1), (7, ALLOC, 0x100, 80)))
    assert told(again) == [(5, ALLOC, 0x900, 1), (7, FREE, 0x100, 50), (7, ALLOC, 0x100, 80)]
    assert in_use(live) == 81


def test_a_block_and_the_memory_it_lies_in_are_not_mistaken_for_each_other() -> None:
    live = Live()
    live.apply(rows((1, ALLOC, 0x100, 64)))
    live.apply(rows((2, ALLOC, 0x100, 60), layer=ALLOCATOR))
    assert told(live.apply(rows((3, FREE, 0x100, 60), layer=ALLOCATOR))) == [(3, FREE, 0x100, 60)]
    assert in_use(live) == 64


def test_a_part_that_is_unmapped_leaves_the_rest() -> None:
    live = Live()
    live.apply(rows((1, ALLOC, 0x10000, 0x4000)))
    part = live.apply(rows((2, FREE, 0x11000, 0x1000), flags=RANGE))
    assert told(part) == [(2, FREE, 0x10000, 0x4000), (2, ALLOC, 0x10000, 0x1000), (2, ALLOC, 0x12000, 0x2000)]
    assert in_use(live) == 0x3000
    assert told(live.apply(rows((3, FREE, 0x10000, 0x4000), flags=RANGE))) == [
        (3, FREE, 0x10000, 0x1000),
        (3, FREE, 0x12000, 0x2000),
    ]
    assert in_use(live) == 0


@given(st.lists(st.tuples(st.integers(1, 8), st.booleans()), max_size=80), st.integers(1, 7))
def test_however_events_are_cut_into_batches_the_sums_are_the_same(steps: list[tuple[int, bool]], size: int) -> None:
    made = rows(*((time, FREE if frees else ALLOC, 16 * slot, 10) for time, (slot, frees) in enumerate(steps)))
    expected: set[int] = set()
    for slot, frees in steps:
        expected = expected - {slot} if frees else expected | {slot}
    live, change = Live(), 0
    for start in range(0, len(made), size):
        written = live.apply(made[start : start + size])
        change += sum(10 if row["kind"] == ALLOC else -10 for row in written)
    assert change == in_use(live) == 10 * len(expected)


def twin(made: Rows) -> tuple[list[tuple[int, int, int, int]], dict[int, int]]:
    """The same in plain Python: what goes into the run, and what is in use."""
    written: list[tuple[int, int, int, int]] = []
    used: dict[int, int] = {}
    for time_ns, kind, address, size in told(made):
        if address in used:
            written.append((time_ns, FREE, address, used.pop(address)))
        elif kind == FREE:
            continue
        if kind == ALLOC:
            used[address] = size
            written.append((time_ns, ALLOC, address, size))
    return written, used


@pytest.mark.parametrize("addresses", [3, 700, 20_000])
def test_many_events_are_paired_as_by_the_plain_twin(addresses: int) -> None:
    random = np.random.default_rng(addresses)
    made = rows(*((time, ALLOC, 0, time) for time in range(60_000)))
    made["kind"] = random.choice([ALLOC, FREE], len(made))
    made["address"] = random.integers(1, addresses, len(made)) << random.choice([0, 12, 40])
    live, written = Live(), []
    for batch in np.array_split(made, 7):
        written += told(live.apply(batch))
    expected, used = twin(made)
    assert written == expected
    assert dict(zip(live.rows["address"].tolist(), live.rows["bytes"].tolist(), strict=True)) == used


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 15), st.integers(1, 6)), max_size=40))
def test_whatever_is_mapped_and_unmapped_the_bytes_in_use_are_those_of_its_pages(
    steps: list[tuple[bool, int, int]],
) -> None:
    live, pages = Live(), set[int]()
    for time_ns, (maps, first, count) in enumerate(steps):
        span = set(range(first, first + count))
        if maps and pages & span:
            continue  # the kernel gives no addresses twice
        live.apply(rows((time_ns, ALLOC if maps else FREE, first << 12, count << 12), flags=0 if maps else RANGE))
        pages = pages | span if maps else pages - span
        assert in_use(live) == len(pages) << 12
