"""Where in the address space memory was in use, over time: what is free between is fragmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.run.columns import Ints, Mask, numbers
from workbench.view.allocations import Allocations

NO_ADDRESS = np.uint64(1 << 55)
"""From here on no memory lies: recorded sums, such as a context's, are told apart by such addresses."""
MOST_BOXES = 20_000
Pixels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Boxes:
    """What to paint: each box is memory in use from column `left` to `right`, from row `low` to `high`, in pixels."""

    left: Pixels
    right: Pixels
    low: Pixels
    high: Pixels
    chosen: Ints  # the allocation that the box is of, or the largest of those that fall on the same pixels
    hidden: int  # boxes that were too many
    ranges: Ints  # [n, 3]: address, bytes, row of each stretch of address space that was handed out, from below


class Addresses:
    """The allocations of a tier as boxes in address and time."""

    def __init__(self, events: pa.Table, allocations: Allocations) -> None:
        self.allocations = allocations
        self.address = numbers(events, "address")[allocations.rows].astype(np.uint64)
        self.is_outer = allocations.made.outer[allocations.first] & (self.address < NO_ADDRESS)
        self.is_held = allocations.keys == allocations.made.unused  # what blocks are cut from: painted under them

    def boxes(self, start_ns: int, end_ns: int, columns: int, rows: int, only: Mask | None = None) -> Boxes:
        """What lies where from `start_ns` to `end_ns`, on so many columns and rows; what nobody took is left out."""
        alive = self.allocations.between(start_ns, end_ns)
        stretches = _stretches(self.address[alive & self.is_outer], self.allocations.bytes[alive & self.is_outer])
        alive &= self.address < NO_ADDRESS
        which = np.flatnonzero(alive if only is None else alive & only)
        per_row = max(float(stretches[:, 1].sum()) / rows, 1.0)
        scale = columns / max(end_ns - start_ns, 1)
        starts, ends = self.allocations.starts[which], np.minimum(self.allocations.ends[which], end_ns)
        low = _row(self.address[which], stretches, per_row)
        high = _row(self.address[which] + self.allocations.bytes[which].astype(np.uint64), stretches, per_row)
        box = np.stack(
            [
                ~self.is_held[which],
                np.clip((starts - start_ns) * scale, 0, columns - 1),
                np.clip(np.ceil((ends - start_ns) * scale), 1, columns),
                np.clip(low, 0, rows - 1),
                np.clip(np.ceil(high), 1, rows),
            ]
        ).astype(np.int32)
        kept, hidden = _largest_of_each(box, self.allocations.bytes[which])
        ranges = np.column_stack([stretches[:, :2], _row(stretches[:, 0].astype(np.uint64), stretches, per_row)])
        kept = kept[np.argsort(box[0, kept], kind="stable")]
        _, left, right, low, high = box[:, kept]
        return Boxes(left, right, low, high, which[kept], hidden, ranges.astype(np.int64))


def _stretches(addresses: npt.NDArray[np.uint64], sizes: Ints) -> Ints:
    """Address and bytes of each stretch of address space that these cover, and the bytes of all below it."""
    if not len(addresses):
        return np.zeros((0, 3), dtype=np.int64)
    order = np.argsort(addresses)
    starts = addresses[order].astype(np.int64)
    ends = np.maximum.accumulate(starts + sizes[order])
    first = np.concatenate([[True], starts[1:] > ends[:-1]])
    begins, stops = starts[first], ends[np.append(first[1:], True)]
    covered = stops - begins
    return np.column_stack([begins, covered, np.cumsum(covered) - covered])


def _row(addresses: npt.NDArray[np.uint64], stretches: Ints, per_row: float) -> npt.NDArray[np.float64]:
    """The row that an address is on when the stretches lie one on the other."""
    if not len(stretches):
        return np.zeros(len(addresses))
    at = addresses.astype(np.int64)
    near = np.maximum(np.searchsorted(stretches[:, 0], at, side="right") - 1, 0)
    inside = np.clip(at - stretches[near, 0], 0, stretches[near, 1])
    row: npt.NDArray[np.float64] = (stretches[near, 2] + inside) / per_row
    return row


def _largest_of_each(box: Pixels, sizes: Ints) -> tuple[Ints, int]:
    """Of boxes on the same pixels the one of most bytes; and the largest of these, where they are too many."""
    order = np.lexsort((-sizes, *box))
    sorted_box = box[:, order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (sorted_box[:, 1:] != sorted_box[:, :-1]).any(axis=0)
    kept = order[first]
    if len(kept) <= MOST_BOXES:
        return np.sort(kept), 0
    area = (box[2] - box[1]).astype(np.int64) * (box[4] - box[3])
    largest = kept[np.argsort(-area[kept], kind="stable")[:MOST_BOXES]]
    return np.sort(largest), len(kept) - MOST_BOXES
