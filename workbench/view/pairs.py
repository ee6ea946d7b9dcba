"""Which free ends which allocation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from workbench.run.columns import Ints, Mask, arrow, codes, equals, numbers, values


@dataclass(frozen=True)
class Pairs:
    """Places of allocations, in the order of time, and of the free of each. A stray free ends nothing that is known."""

    allocs: Ints
    frees: Ints  # undefined where it is not freed
    is_freed: Mask
    strays: Ints


def pair(events: pa.Table, rows: Ints) -> Pairs:
    """The allocations among `rows`, which are in the order of time, with their frees: places in `rows`.

    An address belongs to one allocation at a time in a process and a layer: what comes next there is its free, or else
    its free was not seen and it ends nowhere.
    """
    order = _by_address(events, rows)
    is_alloc = equals(events, "kind", "alloc")[rows][order.places]
    pairs = is_alloc[:-1] & ~is_alloc[1:] & order.same
    is_freed, is_stray = np.append(pairs, False)[: len(rows)], ~is_alloc
    is_stray[1:] &= ~pairs
    frees = np.full(len(rows), -1, dtype=np.int64)
    frees[order.places[:-1][pairs]] = order.places[1:][pairs]
    is_ended = np.zeros(len(rows), dtype=bool)
    is_ended[order.places[is_freed]] = True
    allocs = np.flatnonzero(equals(events, "kind", "alloc")[rows])
    return Pairs(allocs, frees[allocs], is_ended[allocs], np.sort(order.places[is_stray]))


@dataclass(frozen=True)
class _Order:
    """Places by process, layer and address, of the same in the order of time; whether each is at the last one's."""

    places: Ints
    same: Mask


def _by_address(events: pa.Table, rows: Ints) -> _Order:
    """Sorts small numbers for the addresses, packed with the place: several times faster than sorting by three keys."""
    layer, _ = codes(events, "layer")
    where = arrow(numbers(events, "address")[rows]).dictionary_encode()
    process = arrow(numbers(events, "process")[rows]).dictionary_encode()
    key = values(where.indices).astype(np.int64)
    for extra, count in ((values(process.indices), len(process.dictionary)), (layer[rows], 8)):
        key *= count
        key += extra
    bits = max(len(rows), 1).bit_length()
    packed = np.sort((key << bits) | np.arange(len(rows)))
    keys = packed >> bits
    return _Order(packed & ((1 << bits) - 1), keys[1:] == keys[:-1])
