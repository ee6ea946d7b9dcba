"""Memory that mremap moved stays what it was."""

from __future__ import annotations

import numpy as np

from tests.unit.test_live import rows
from workbench.recorder.native import ALLOC, FILE, FREE, MOVED, RANGE, RESERVED, SHARED
from workbench.recorder.recorded import keep_kinds
from workbench.recorder.rows import none

HERE, OTHER = 1, 2  # threads


def test_a_file_that_grows_stays_a_file_also_when_it_moves_again() -> None:
    batch = np.concatenate(
        [
            rows((1, ALLOC, 0x1000, 0x1000), flags=FILE | SHARED, thread=HERE),
            rows((2, FREE, 0x1000, 0x1000), flags=RANGE, thread=HERE),
            rows((3, FREE, 0x9000, 0x1000), flags=RANGE, thread=OTHER),
            rows((4, ALLOC, 0x5000, 0x2000), flags=MOVED, thread=HERE),
            rows((5, FREE, 0x5000, 0x2000), flags=RANGE, thread=HERE),
            rows((6, ALLOC, 0x7000, 0x3000), flags=MOVED, thread=HERE),
        ]
    )
    keep_kinds(batch, none())
    assert batch["flags"][[3, 5]].tolist() == [FILE | SHARED] * 2


def test_addresses_that_were_reserved_in_an_earlier_batch_hold_no_memory_when_they_move() -> None:
    before = rows((1, ALLOC, 0x1000, 0x9000), flags=RESERVED, tag=7, thread=HERE)
    batch = np.concatenate(
        [
            rows((2, FREE, 0x2000, 0x1000), flags=RANGE, thread=HERE),
            rows((3, ALLOC, 0xF000, 0x1000), flags=MOVED, thread=HERE),
        ]
    )
    keep_kinds(batch, before)
    assert (batch["flags"][1], batch["tag"][1]) == (RESERVED, 7)


def test_what_moved_from_nowhere_known_is_left_as_it_is() -> None:
    batch = np.concatenate(
        [
            rows((2, FREE, 0x2000, 0x1000), flags=RANGE, thread=HERE),
            rows((3, ALLOC, 0xF000, 0x1000), flags=MOVED, thread=HERE),
        ]
    )
    keep_kinds(batch, none())
    assert batch["flags"][1] == MOVED
