"""What is drawn is what the events say: held to sums made one event at a time."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.builders import MIB, block, event, gpu, table
from tests.unit.made_runs import gpu_rows
from workbench.errors import UsageError
from workbench.run.ledger import UNUSED, alive_by_owner
from workbench.run.timeline import Timeline
from workbench.view.bands import OTHERS, UNTAGGED, VISIBLE, Bands, band_name, is_unused

SEEDS = st.integers(0, 10**9)


def summed(rows: list[dict[str, Any]], by: str) -> list[dict[str, int]]:
    """The bytes of each band after each event, added up by the ledger's own way of looking at one moment."""
    found = []
    for count in range(1, len(rows) + 1):
        sums: dict[str, int] = defaultdict(int)
        for (owner, tag), held in alive_by_owner(table("events", rows[:count]), "gpu", 10**9).items():
            # as long as nothing was cut from it, the ledger calls a segment its owner's; a band has one name for good
            key = ("torch", UNUSED) if owner == "libc10_cuda.so" else (owner, tag)
            sums[band_name(key, by)] += held
        found.append(dict(sums))
    return found


@pytest.mark.parametrize("by", ["owner", "tag"])
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_bands_are_the_ledger_of_every_moment(by: str, seed: int) -> None:
    rows = gpu_rows(seed, 50)
    bands = Bands.of(table("events", rows), "gpu", by)
    if bands.made.unused < 0:  # no block was made
        return
    assert len(bands.times_ns) == len(rows)
    places = np.arange(len(rows))
    values = {band.name: band.steps.after(places) for band in bands.bands}
    for place, sums in enumerate(summed(rows, by)):
        assert {name: held[place] for name, held in values.items() if held[place]} == {
            name: held for name, held in sums.items() if held
        }


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_bands_add_up_to_the_timeline(seed: int) -> None:
    events = table("events", gpu_rows(seed, 200))
    bands, timeline = Bands.of(events, "gpu", "tag"), Timeline.of(events, "gpu")
    assert bands.total.bytes.tolist() == timeline.bytes.tolist()
    everything = sum(band.steps.after(np.arange(len(bands.times_ns))) for band in bands.bands)
    assert everything.tolist() == bands.total.after(np.arange(len(bands.times_ns))).tolist()  # type: ignore[union-attr]


@given(seed=SEEDS, columns=st.integers(1, 30), window=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_no_peak_is_lost(seed: int, columns: int, window: tuple[float, float]) -> None:
    bands = Bands.of(table("events", gpu_rows(seed, 400)), "gpu", "tag")
    last = int(bands.times_ns[-1])
    start, end = sorted(int(share * last) for share in window)
    if start == end:
        return
    samples = bands.sample(start, end, columns)
    exact = {band.name: band.steps.after(np.arange(len(bands.times_ns))) for band in bands.bands}
    in_use = [number for number, band in enumerate(bands.bands) if not is_unused(band.name)]
    tolerance = VISIBLE * samples.bytes.max()
    edges = np.searchsorted(bands.times_ns, np.linspace(start, end, columns + 1), side="right")
    for first, after in pairwise(edges.tolist()):
        if first == after:
            continue
        times = bands.times_ns[first:after]
        inside = (samples.times_ns >= times[0]) & (samples.times_ns <= times[-1])
        inside[max(int(np.argmax(inside)) - 1, 0)] = True  # what held before is seen until the first event
        shown = samples.bytes[:, inside]
        everything = np.array([exact[band.name][first:after] for band in bands.bands])
        assert shown.sum(axis=0).max() >= everything.sum(axis=0).max()
        assert shown.sum(axis=0).min() <= everything.sum(axis=0).min()
        assert shown[in_use].sum(axis=0).max() >= everything[in_use].sum(axis=0).max()
        assert shown[:, -1].tolist() == everything[:, -1].tolist()
        assert np.all(everything.max(axis=1) <= shown.max(axis=1) + tolerance)


@given(seed=SEEDS, columns=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_every_sample_is_exact(seed: int, columns: int) -> None:
    bands = Bands.of(table("events", gpu_rows(seed, 300)), "gpu", "owner")
    last = int(bands.times_ns[-1])
    samples = bands.sample(last // 3, last, columns)
    rows = {tuple(column) for column in samples.bytes.T.tolist()}
    places = np.arange(len(bands.times_ns))
    exact = np.array([band.steps.after(places) for band in bands.bands]).T.tolist()
    assert rows <= {tuple(row) for row in exact}
    assert samples.times_ns[0] == last // 3
    assert np.all(np.diff(samples.times_ns) >= 0)


def test_one_band_alone_keeps_its_own_peaks() -> None:
    rows = [event(0, "alloc", 1000, 1, owner="large")]
    for number in range(2000):  # at each time something small comes when something large goes
        is_up = number == 777
        rows += [
            event(10 * number + 1, "free", 1000, 1, owner="large"),
            event(10 * number + 2, "alloc", 900 if is_up else 3, 2, owner="small"),
            event(10 * number + 3, "free", 900 if is_up else 3, 2, owner="small"),
            event(10 * number + 4, "alloc", 1000, 1, owner="large"),
        ]
    bands = Bands.of(table("events", rows), "pageable", "owner")
    for only in ((), ("small",)):
        samples = bands.sample(0, 20_000, 20, only)
        assert len(samples.times_ns) < 120
        assert samples.bytes[[band.name for band in bands.bands].index("small")].max() == 900


def test_the_largest_owners_have_a_band_and_the_rest_share_one() -> None:
    rows = [event(number, "alloc", 1000 - number, number + 1, owner=f"lib{number}.so") for number in range(40)]
    bands = Bands.of(table("events", rows), "pageable", "owner").bands
    assert [band.name for band in bands] == [*(f"lib{number}.so" for number in range(11)), OTHERS]
    assert bands[-1].peak == sum(1000 - number for number in range(11, 40))


def test_what_is_unused_keeps_its_band_and_lies_above() -> None:
    rows = [gpu(0, "alloc", 2 * MIB, 0x1000000), block(1, "alloc", 2 * MIB - 5, 0x1000000, tag="weights")]
    rows += [
        gpu(number + 2, "alloc", 10 * MIB + number, number << 32, owner=f"lib{number}.so") for number in range(1, 30)
    ]
    names = [band.name for band in Bands.of(table("events", rows), "gpu", "owner").bands]
    assert names[-2:] == ["torch unused", OTHERS]


def test_blocks_outside_of_what_is_known_count_nowhere() -> None:
    rows = [
        gpu(0, "alloc", MIB, MIB),
        block(1, "alloc", 100, MIB),
        block(2, "alloc", 7, 9 * MIB),
        block(3, "free", 7, 9 * MIB),
    ]
    bands = Bands.of(table("events", rows), "gpu", "owner")
    assert {band.name: band.peak for band in bands.bands} == {"torch": 100, "torch unused": MIB}


def test_a_block_that_outlives_its_segment_is_freed_all_the_same() -> None:
    rows = [
        gpu(0, "alloc", MIB, MIB),
        block(1, "alloc", 100, MIB),
        gpu(2, "free", MIB, MIB),
        block(3, "free", 100, MIB),
    ]
    bands = Bands.of(table("events", rows), "gpu", "owner")
    assert {band.name: int(band.steps.bytes[-1]) for band in bands.bands} == {"torch": 0, "torch unused": 0}


def test_a_tier_without_events_has_no_bands() -> None:
    bands = Bands.of(table("events", []), "gpu", "owner")
    samples = bands.sample(0, 100, 10)
    assert (bands.bands, samples.times_ns.tolist(), samples.bytes.shape) == ([], [0], (0, 1))


def test_what_nobody_tagged_is_named_so() -> None:
    rows = [event(0, "alloc", 5, 1), event(1, "alloc", 3, 2, tag="weights")]
    assert [band.name for band in Bands.of(table("events", rows), "pageable", "tag").bands] == ["weights", UNTAGGED]


def test_there_are_two_ways_to_look() -> None:
    with pytest.raises(UsageError, match="by 'size'; by owner or tag"):
        Bands.of(table("events", []), "gpu", "size")
