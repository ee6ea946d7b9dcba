"""Which blocks lie inside memory that was handed out in one piece, at their time: found for all of them at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.run.columns import Ints, Mask, arrow, numbers, values
from workbench.view.pairs import pair

Addresses = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class _Slabs:
    """Address space cut at every start and end of a piece: which piece covers a slab, from which row until which."""

    bounds: Addresses  # ascending; slab i is from bounds[i] up to bounds[i + 1]
    keys: Ints  # slab * rows + the row that the piece was handed out in; ascending
    since: Ints  # the row that the piece was handed out in
    until: Ints  # the row that it was taken back in
    pieces: Ints


def inside(events: pa.Table, outer: Ints, blocks: Ints) -> tuple[Mask, Ints]:
    """Which events of blocks lie in an outer piece that was alive then, and the places in `outer` of those pieces.

    What frees a block counts as its allocation does.
    """
    is_in, holds = np.zeros(len(blocks), dtype=bool), [np.zeros(0, dtype=np.int64)]
    process = numbers(events, "process")[blocks]
    for one in np.unique(process).tolist():
        pieces, mine = np.flatnonzero(numbers(events, "process")[outer] == one), process == one
        if len(pieces):
            homes = _homes(events, outer[pieces], blocks if mine.all() else blocks[mine])
            is_in[mine] = homes >= 0
            holds.append(pieces[np.flatnonzero(np.bincount(homes + 1, minlength=1)[1:])])
    if not is_in.all():
        lives = pair(events, blocks)
        is_in[lives.frees[lives.is_freed]] = is_in[lives.allocs[lives.is_freed]]
        is_in[lives.strays] = False
    return is_in, np.concatenate(holds)


def _homes(events: pa.Table, outer: Ints, blocks: Ints) -> Ints:
    """For each block the place in `outer` of the allocation that it lies in, -1 where there is none.

    Addresses are few beside events, so each is looked up once; most of their slabs belong to one piece for good.
    """
    slabs = _slabs(events, outer)
    if not len(slabs.keys):
        return np.full(len(blocks), -1, dtype=np.int64)
    where = arrow(numbers(events, "address")[blocks]).dictionary_encode()
    address = values(where.indices)
    slab = np.searchsorted(slabs.bounds, values(where.dictionary), side="right") - 1
    first = np.searchsorted(slabs.keys, slab * events.num_rows)
    count = np.searchsorted(slabs.keys, (slab + 1) * events.num_rows) - first
    place = np.where(count > 0, first, -1)[address]
    often = np.flatnonzero((count > 1)[address])
    if len(often):
        key = slab[address[often]] * events.num_rows + blocks[often]
        place[often] = np.maximum(np.searchsorted(slabs.keys, key, side="right") - 1, first[address[often]])
    place[(blocks < slabs.since[place]) | (blocks >= slabs.until[place])] = -1
    homes: Ints = np.append(slabs.pieces, -1)[place]
    return homes


def _slabs(events: pa.Table, outer: Ints) -> _Slabs:
    lives = pair(events, outer)
    since = outer[lives.allocs]
    until = np.where(lives.is_freed, outer[lives.frees], events.num_rows)
    starts = numbers(events, "address")[since]
    ends = starts + numbers(events, "bytes")[since].astype(np.uint64)
    bounds = np.unique(np.concatenate([starts, ends]))
    low, high = np.searchsorted(bounds, starts), np.searchsorted(bounds, ends)
    counts = high - low
    piece = np.repeat(np.arange(len(since)), counts)
    slab = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
    keys = slab * events.num_rows + since[piece]
    order = np.argsort(keys, kind="stable")
    piece = piece[order]
    return _Slabs(bounds, keys[order], since[piece], until[piece], lives.allocs[piece])
