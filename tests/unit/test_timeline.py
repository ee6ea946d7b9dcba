from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.builders import MIB, block, event, gpu, table
from workbench.run.timeline import Peak, Timeline, timelines


def test_adds_up_to_the_exact_steps() -> None:
    events = table(
        "events",
        [event(10, "alloc", 5, 0x1), event(20, "alloc", 7, 0x2), event(30, "free", 5, 0x1), event(40, "free", 7, 0x2)],
    )
    timeline = Timeline.of(events, "pageable")
    assert timeline.times_ns.tolist() == [10, 20, 30, 40]
    assert timeline.bytes.tolist() == [5, 12, 7, 0]
    assert timeline.peak == Peak(12, 20)
    assert [timeline.at(t) for t in (9, 10, 19, 20, 35, 99)] == [0, 5, 5, 12, 7, 0]


def test_peak_of_an_interval_includes_what_was_in_use_at_its_start() -> None:
    events = table("events", [event(10, "alloc", 100, 1), event(20, "free", 100, 1), event(30, "alloc", 40, 2)])
    timeline = Timeline.of(events, "pageable")
    assert timeline.peak_between(15, 35) == Peak(100, 15)
    assert timeline.peak_between(25, 35) == Peak(40, 30)
    assert timeline.peak_between(50, None) == Peak(40, 50)
    assert timeline.peak_between(0, 5) == Peak(0, 0)


def test_blocks_inside_driver_memory_are_not_counted_twice() -> None:
    events = table(
        "events",
        [gpu(1, "alloc", 20 * MIB, 0x1000), block(2, "alloc", MIB, 0x1000), block(3, "alloc", MIB, 0x200000)],
    )
    assert Timeline.of(events, "gpu").peak.bytes == 20 * MIB


def test_blocks_count_where_nothing_outer_was_recorded() -> None:
    events = table("events", [block(2, "alloc", MIB, 0x1000), block(3, "free", MIB, 0x1000)])
    assert Timeline.of(events, "gpu").peak.bytes == MIB


@pytest.mark.parametrize("tier", ["gpu", "pinned", "pageable"])
def test_a_tier_without_events_is_empty(tier: str) -> None:
    timeline = Timeline.of(table("events", []), tier)
    assert (timeline.peak, timeline.end) == (Peak(0, 0), 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 1000), st.booleans()), max_size=60))
def test_allocs_minus_frees_is_the_end_and_owners_add_up(made: list[tuple[str, int, bool]]) -> None:
    rows, end = [], 0
    for number, (owner, size, is_freed) in enumerate(made):
        rows.append(event(2 * number, "alloc", size, number + 1, owner=owner))
        if is_freed:
            rows.append(event(2 * number + 1, "free", size, number + 1, owner=owner))
        else:
            end += size
    events = table("events", rows)
    assert Timeline.of(events, "pageable").end == end
    assert sum(timeline.end for timeline in timelines(events, "pageable").values()) == end
