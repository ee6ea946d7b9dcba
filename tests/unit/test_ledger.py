from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.builders import MIB, block, event, gpu, table, total
from workbench.run.ledger import UNUSED, Entry, ledger_at

NO_TOTALS = table("totals", [])


def test_device_memory_by_owner_tag_and_what_the_allocator_holds_unused() -> None:
    events = table(
        "events",
        [
            gpu(0, "alloc", 600 * MIB, 1, owner="before the run"),
            gpu(1, "alloc", 20 * MIB, 0x10000000),
            gpu(2, "alloc", 2 * MIB, 0x20000000, owner="libnccl.so.2"),
            block(3, "alloc", 8 * MIB, 0x10000000, tag="weights"),
            block(4, "alloc", 4 * MIB, 0x10000000 + 8 * MIB, tag="kv_cache"),
            block(5, "free", 4 * MIB, 0x10000000 + 8 * MIB, tag="kv_cache"),
        ],
    )
    totals = table("totals", [total(4, "gpu", "used", 623 * MIB, device=0)])
    ledger = ledger_at(events, totals, "gpu", 4)
    assert set(ledger.entries) == {
        Entry("before the run", None, 600 * MIB),
        Entry("torch", "weights", 8 * MIB),
        Entry("torch", "kv_cache", 4 * MIB),
        Entry("torch", UNUSED, 8 * MIB),
        Entry("libnccl.so.2", None, 2 * MIB),
    }
    assert (ledger.used, ledger.explained, ledger.unexplained) == (623 * MIB, 622 * MIB, MIB)
    later = ledger_at(events, totals, "gpu", 5)
    assert later.by_owner()["torch"] == 20 * MIB


def test_an_address_that_is_used_again_belongs_to_its_last_owner() -> None:
    events = table(
        "events",
        [
            gpu(1, "alloc", 5, 0x100, owner="a"),
            gpu(2, "free", 5, 0x100, owner="a"),
            gpu(3, "alloc", 7, 0x100, owner="b"),
            gpu(3, "alloc", 9, 0x100, owner="c", process=2),
        ],
    )
    assert ledger_at(events, NO_TOTALS, "gpu", 1).by_owner() == {"a": 5}
    assert ledger_at(events, NO_TOTALS, "gpu", 2).by_owner() == {}
    assert ledger_at(events, NO_TOTALS, "gpu", 3).by_owner() == {"c": 9, "b": 7}


def test_the_truth_is_added_over_devices_and_is_the_last_reading_of_each() -> None:
    totals = table(
        "totals",
        [
            total(1, "gpu", "used", 10, device=0),
            total(1, "gpu", "used", 20, device=1),
            total(5, "gpu", "used", 11, device=0),
            total(9, "gpu", "used", 99, device=0),
        ],
    )
    ledger = ledger_at(table("events", []), totals, "gpu", 6)
    assert (ledger.used, ledger.unexplained) == (31, 31)


def test_pageable_is_measured_at_edges_and_says_how_far_it_may_be_off_between_them() -> None:
    events = table("events", [event(1, "alloc", 100, 1), event(20, "alloc", 30, 2), event(22, "free", 100, 1)])
    totals = table(
        "totals",
        [
            total(10, "pageable", "private", 90),
            total(10, "pageable", "resident", 200),
            total(10, "pageable", "held", 60, owner="libdemo.so"),
            total(10, "pageable", "held", 25, owner="heap", tag="below 64 KiB"),
            total(24, "pageable", "resident", 205),
            total(24, "pageable", "resident", 205),  # read twice at one moment
        ],
    )
    at_edge = ledger_at(events, totals, "pageable", 10)
    assert (at_edge.used, at_edge.explained, at_edge.unexplained, at_edge.error) == (90, 85, 5, 0)
    between = ledger_at(events, totals, "pageable", 15)
    assert (between.used, between.explained, between.error) == (90, 85, 30 + 100 + 5), "until the next sample"
    sampled = ledger_at(events, totals, "pageable", 24)
    assert (sampled.used, sampled.error) == (95, 30 + 100 + 5)
    assert sampled.by_owner() == {"libdemo.so": 30, "heap": 25}, "what it had is given back, what is new may be touched"
    assert ledger_at(events, totals, "pageable", 25).error == 30 + 100 + 5 + 205, "nobody has looked since"


def test_pages_that_are_more_than_at_the_reading_are_those_of_new_memory() -> None:
    sizes = {"weights": 300, "cache": 100, "gone": 50}
    events = [event(11 + at, "alloc", size, at, tag=tag) for at, (tag, size) in enumerate(sizes.items())]
    totals = [total(10, "pageable", name, 70) for name in ("private", "resident")]
    totals += [total(10, "pageable", "held", 60, owner="heap"), total(20, "pageable", "resident", 270)]
    run = table("events", [*events, event(14, "free", 50, 2, tag="gone")]), table("totals", totals)
    grown = {entry.tag: entry.bytes for entry in ledger_at(*run, "pageable", 20).entries}
    assert grown == {None: 60, "weights": 150, "cache": 50}, "200 pages came, 400 bytes were handed out"
    assert ledger_at(*run, "pageable", 20).unexplained == 10, "as at the reading"
    assert ledger_at(*run, "pageable", 14).by_owner() == {"heap": 60}, "none was touched by then"


def test_one_process_that_goes_does_not_hide_that_another_grew() -> None:
    totals = [total(10, "pageable", "private", 50), total(10, "pageable", "resident", 50)]
    totals += [total(10, "pageable", "private", 0, process=2), total(20, "pageable", "resident", 50, process=2)]
    ledger = ledger_at(table("events", []), table("totals", totals), "pageable", 20)
    assert (ledger.used, ledger.error) == (50, 100)


def test_without_a_truth_there_is_nothing_unexplained() -> None:
    ledger = ledger_at(table("events", [gpu(1, "alloc", 5, 1, tier="pinned")]), NO_TOTALS, "pinned", 2)
    assert (ledger.used, ledger.unexplained, ledger.explained) == (None, None, 5)


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(0, 63), st.booleans()), max_size=40))
def test_blocks_never_add_to_what_the_driver_handed_out(segments: list[tuple[int, int, bool]]) -> None:
    rows, handed_out, start = [], 0, 1 << 30
    for number, (size, filled, is_freed) in enumerate(segments):
        rows.append(gpu(3 * number, "alloc", size, start))
        if 0 < filled <= size:
            rows.append(block(3 * number + 1, "alloc", filled, start))
            if is_freed:
                rows.append(block(3 * number + 2, "free", filled, start))
        handed_out += size
        start += size
    ledger = ledger_at(table("events", rows), NO_TOTALS, "gpu", 10**9)
    assert ledger.explained == handed_out
    assert all(entry.bytes > 0 for entry in ledger.entries)
