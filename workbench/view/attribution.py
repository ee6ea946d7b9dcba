"""Whose bytes each event of a tier changes: the rules of the ledger, for all moments at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.run.columns import Ints, Mask, codes, equals, numbers
from workbench.run.ledger import UNUSED
from workbench.run.timeline import PIECE, counted, signed_bytes
from workbench.view.containers import inside

Key = tuple[str, str | None]
"""An owner and a tag."""
Keys = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Attribution:
    """The events that change the bytes of a tier, in the order of time; `keys[i]` is a place in `names`.

    A block moves bytes from what its allocator holds unused (`unused`, a place in `names`, or -1) to its own key: it
    is not `outer`, and leaves the sum as it was.
    """

    rows: Ints  # of the events table
    times_ns: Ints
    change: Ints  # bytes; negative for a free
    keys: Keys
    names: tuple[Key, ...]
    outer: Mask
    unused: int


def attribute(events: pa.Table, tier: str) -> Attribution:
    """Whose bytes the events of `tier` change. Blocks are told apart where their allocator's memory is recorded too."""
    is_outer = counted(events, tier)
    outer = np.flatnonzero(is_outer)
    blocks = np.flatnonzero(equals(events, "tier", tier) & ~is_outer)
    if tier == "pageable" or not len(blocks):  # what malloc hands out bears its tag itself
        return _attribution(events, outer, np.ones(len(outer), dtype=bool))
    found, holds = inside(events, outer, blocks)
    if found.any():
        is_outer[blocks] = found
        rows = np.flatnonzero(is_outer)
        kept = np.ones(events.num_rows, dtype=bool)
        kept[blocks] = False
        return _attribution(events, rows, kept[rows], outer[holds])
    return _attribution(events, outer, np.ones(len(outer), dtype=bool))


def _attribution(events: pa.Table, rows: Ints, outer: Mask, holds: Ints | None = None) -> Attribution:
    """`holds` are rows of what was cut into blocks: all that its owner takes is unused until a block is cut from it."""
    owners, texts = codes(events, "owner")
    keys, names = _keys(events, owners, texts, rows)
    unused = -1
    if holds is not None:
        is_held = np.zeros(len(texts), dtype=bool)
        is_held[owners[holds]] = True
        keys[outer & is_held[owners[rows]]] = unused = len(names)
        allocator = texts[owners[rows[int(np.argmin(outer))]]]
        names = (*names, (allocator or "", UNUSED))
    times, change = numbers(events, "time_ns"), signed_bytes(events)
    if len(rows) < len(times):
        times, change = times[rows], change[rows]
    return Attribution(rows, times, change, keys, names, outer, unused)


def _keys(events: pa.Table, owners: Ints, texts: list[str | None], rows: Ints) -> tuple[Keys, tuple[Key, ...]]:
    """The owner and tag of each row, as a place among those that occur."""
    tags, tag_texts = codes(events, "tag")
    occurs = np.zeros(len(texts) * len(tag_texts), dtype=bool)
    keys = np.empty(len(rows), dtype=np.int32)
    pieces = [slice(start, start + PIECE) for start in range(0, len(rows), PIECE)]
    for piece in pieces:
        keys[piece] = owners[rows[piece]] * len(tag_texts) + tags[rows[piece]]
        occurs[keys[piece]] = True
    present = np.flatnonzero(occurs)
    place = np.zeros(len(occurs), dtype=np.int32)
    place[present] = np.arange(len(present), dtype=np.int32)
    for piece in pieces:
        keys[piece] = place[keys[piece]]
    names = ((texts[pair // len(tag_texts)] or "", tag_texts[pair % len(tag_texts)]) for pair in present.tolist())
    return keys, tuple(names)
