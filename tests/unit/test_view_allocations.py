from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.builders import MIB, event, table
from tests.unit.made_runs import gpu_rows
from workbench.errors import UsageError
from workbench.run.columns import numbers
from workbench.view.addresses import Addresses
from workbench.view.allocations import NEVER, Allocations, Frames
from workbench.view.attribution import attribute
from workbench.view.pairs import pair


def paired(rows: list[dict[str, Any]]) -> dict[int, int | None]:
    """Each allocation's free, found one event at a time."""
    alive: dict[Any, int] = {}
    found: dict[int, int | None] = {}
    for place, row in enumerate(rows):
        key = (row["process"], row["layer"], row["address"])
        if row["kind"] == "alloc":
            found[place] = None
            alive[key] = place
        elif key in alive:
            found[alive.pop(key)] = place
    return found


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("alloc", "free")), st.integers(1, 4), st.integers(1, 2)), max_size=60))
def test_frees_end_the_last_allocation_at_their_address(made: list[tuple[str, int, int]]) -> None:
    rows = [event(time, kind, 1, address, process=process) for time, (kind, address, process) in enumerate(made)]
    found = pair(table("events", rows), np.arange(len(rows)))
    frees = np.where(found.is_freed, found.frees, -1).tolist()
    assert dict(zip(found.allocs.tolist(), (free if free >= 0 else None for free in frees), strict=True)) == paired(
        rows
    )
    ended = {free for free in paired(rows).values() if free is not None}
    assert found.strays.tolist() == [n for n, row in enumerate(rows) if row["kind"] == "free" and n not in ended]


def made(rows: list[dict[str, Any]], tier: str = "pageable") -> Allocations:
    events = table("events", rows)
    return Allocations(events, attribute(events, tier), numbers(events, "stack"))


ROWS = [
    event(10, "alloc", 5, 0x1, owner="a", stack=1),
    event(20, "alloc", 70, 0x2, owner="b", tag="weights", stack=2),
    event(30, "free", 5, 0x1, owner="a"),
    event(40, "alloc", 6, 0x1, owner="a", stack=2),
]


def test_each_has_its_size_owner_stack_and_lifetime() -> None:
    found = made(ROWS)
    assert found.starts.tolist() == [10, 20, 40]
    assert found.ends.tolist() == [30, NEVER, NEVER]
    assert found.bytes.tolist() == [5, 70, 6]
    assert [found.made.names[key] for key in found.keys] == [("a", None), ("b", "weights"), ("a", None)]
    assert found.stacks.tolist() == [1, 2, 2]


@pytest.mark.parametrize(("moment", "sizes"), [(9, []), (10, [5]), (29, [5, 70]), (30, [70]), (40, [70, 6])])
def test_which_were_alive_at_a_moment(moment: int, sizes: list[int]) -> None:
    found = made(ROWS)
    assert found.bytes[found.between(moment, moment)].tolist() == sizes


def test_pages_in_an_order() -> None:
    found = made(ROWS)
    every = np.ones(3, dtype=bool)
    page = found.page(every, limit=2)
    assert (found.bytes[page.chosen].tolist(), page.count, page.bytes) == ([70, 6], 3, 81)
    assert found.bytes[found.page(every, offset=2).chosen].tolist() == [5]
    assert found.starts[found.page(every, "start", descending=False).chosen].tolist() == [10, 20, 40]
    assert found.bytes[found.page(every, "lifetime").chosen].tolist()[-1] == 5
    with pytest.raises(UsageError, match="by 'owner'; by bytes, start, lifetime"):
        found.page(every, "owner")


def test_bytes_over_time_of_some() -> None:
    found = made(ROWS)
    steps = found.steps(found.of_keys((0,)))
    assert steps.bytes.tolist() == [5, 0, 6]


def test_every_owner_has_its_largest_in_a_short_list() -> None:
    rows = [event(number, "alloc", 100 + number, number + 1, owner="many") for number in range(50)]
    found = made([*rows, event(99, "alloc", 1, 999, owner="one")])
    assert found.bytes[found.largest_of_each_key(4)].tolist() == [147, 148, 149, 1]


STACKS = [
    {"stack": 7, "frames": ["/x/model.py:3 forward", "/x/main.py:9 main"]},
    {"stack": 2, "frames": ["/x/load.py:1 LOAD", "/x/main.py:9 main"]},
    {"stack": 9, "frames": []},
]


def test_stacks_are_found_by_any_of_their_frames() -> None:
    frames = Frames(table("stacks", STACKS))
    assert frames.of(7) == ["/x/model.py:3 forward", "/x/main.py:9 main"]
    assert (frames.of(0), frames.of(9), frames.of(5)) == ([], [], [])
    assert np.flatnonzero(frames.holding("load")).tolist() == [2]
    assert np.flatnonzero(frames.holding("MAIN.py")).tolist() == [2, 7]
    assert not frames.holding("nothing").any()
    assert not Frames(table("stacks", [])).holding("a").any()


@given(seed=st.integers(0, 10**9), columns=st.integers(1, 40), rows=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_addresses_are_painted_where_memory_was_in_use(seed: int, columns: int, rows: int) -> None:
    events = table("events", gpu_rows(seed, 200))
    found = made(events.to_pylist(), "gpu")
    end = int(found.made.times_ns[-1]) + 1
    boxes = Addresses(events, found).boxes(0, end, columns, rows)
    painted = np.zeros((columns, rows), dtype=bool)
    for left, right, low, high in zip(boxes.left, boxes.right, boxes.low, boxes.high, strict=True):
        assert 0 <= left < right <= columns
        assert 0 <= low < high <= rows
        painted[left:right, low:high] = True
    per_row = boxes.ranges[:, 1].sum() / rows
    address = np.array([row["address"] for row in events.to_pylist()])[found.rows]
    for start, stop, at, size in zip(found.starts, found.ends, address, found.bytes, strict=True):
        stretch = np.searchsorted(boxes.ranges[:, 0], at, side="right") - 1
        below = boxes.ranges[:stretch, 1].sum() + at - boxes.ranges[stretch, 0]
        middle = int(min((below + size / 2) / per_row, rows - 1))
        moment = int(min((start + min(stop, end)) / 2 / end * columns, columns - 1))
        assert painted[moment, middle]


def test_sums_without_an_address_are_not_painted() -> None:
    rows = [event(0, "alloc", MIB, 0x1000), event(1, "alloc", 10 * MIB, 1 << 56, owner="context")]
    events = table("events", rows)
    boxes = Addresses(events, made(rows)).boxes(0, 10, 10, 10)
    assert boxes.chosen.tolist() == [0]
    assert boxes.ranges[:, :2].tolist() == [[0x1000, MIB]]
