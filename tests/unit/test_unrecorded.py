from __future__ import annotations

import numpy as np

from workbench.recorder.native import ALLOC, DRIVER, FREE, GPU, MEASURE
from workbench.recorder.rows import ROW, Rows, none
from workbench.recorder.unrecorded import BASELINE, OUTLIVED, Unrecorded

CONTEXT, MODULES, NCCL = 7, 8, 9
PROCESS, OTHER = 11, 12


def row(time_ns: int, kind: int, size: int, owner: int = 0, flags: int = 0, tag: int = 0) -> Rows:
    made = np.zeros(1, ROW)
    made["time_ns"], made["kind"], made["bytes"], made["owner"] = time_ns, kind, size, owner
    made["flags"], made["layer"], made["tier"], made["tag"] = flags, DRIVER, GPU, tag
    return made


def told(rows: Rows) -> list[tuple[int, int, int, int]]:
    return [tuple(int(one[field]) for field in ("time_ns", "kind", "owner", "bytes")) for one in rows]  # type: ignore[misc]


def settled(*rows: Rows, used: int = 100) -> list[tuple[int, int, int, int]]:
    unrecorded = Unrecorded()
    unrecorded.begin(0, used)
    for one in rows:
        is_reading = one["kind"] == MEASURE
        unrecorded.add(PROCESS, one[is_reading], one[~is_reading])
    return told(np.concatenate([none(), *(rows for _, rows in unrecorded.settle())]))


def test_growth_around_a_creation_is_its_owners() -> None:
    assert settled(row(1, MEASURE, 621, CONTEXT)) == [(1, ALLOC, CONTEXT, 521)]


def test_what_was_recorded_in_between_is_not_counted_again_even_if_it_comes_late() -> None:
    assert settled(row(5, MEASURE, 190, MODULES), row(3, ALLOC, 60)) == [(5, ALLOC, MODULES, 30)]
    assert settled(row(2, ALLOC, 60), row(3, FREE, 60), row(5, MEASURE, 130, MODULES)) == [(5, ALLOC, MODULES, 30)]


def test_what_grew_before_a_baseline_is_nobodys() -> None:
    found = settled(row(1, MEASURE, 140, 0, BASELINE), row(2, MEASURE, 150, MODULES))
    assert found == [(2, ALLOC, MODULES, 10)]


def test_growth_of_the_same_owner_adds_up_and_shrinks_again() -> None:
    found = settled(row(1, MEASURE, 110, MODULES), row(2, MEASURE, 130, MODULES), row(3, MEASURE, 105, MODULES))
    assert found == [
        (1, ALLOC, MODULES, 10),
        (2, FREE, MODULES, 10),
        (2, ALLOC, MODULES, 30),
        (3, FREE, MODULES, 30),
        (3, ALLOC, MODULES, 5),
    ]


def test_it_keeps_apart_what_it_was_for() -> None:
    found = settled(row(1, MEASURE, 110, MODULES, tag=1), row(2, MEASURE, 130, MODULES, tag=2))
    assert found == [(1, ALLOC, MODULES, 10), (2, ALLOC, MODULES, 20)]


def test_nothing_shrinks_below_nothing() -> None:
    assert settled(row(1, MEASURE, 60, MODULES)) == []


def test_a_process_that_is_gone_gives_back_what_it_held_and_the_others_keep_theirs() -> None:
    unrecorded = Unrecorded()
    unrecorded.begin(0, 100)
    unrecorded.add(PROCESS, row(1, MEASURE, 150, CONTEXT), none())
    unrecorded.add(OTHER, row(2, MEASURE, 170, CONTEXT), row(3, ALLOC, 30))
    assert [(who, told(rows)) for who, rows in unrecorded.bury(PROCESS, 9)] == [
        (PROCESS, [(1, ALLOC, CONTEXT, 50)]),
        (OTHER, [(2, ALLOC, CONTEXT, 20)]),
        (PROCESS, [(9, FREE, CONTEXT, 50)]),
    ]
    unrecorded.add(OTHER, row(10, MEASURE, 151, MODULES), none())  # 170 + 30 - 50, and one more
    assert [(who, told(rows)) for who, rows in unrecorded.settle()] == [(OTHER, [(10, ALLOC, MODULES, 1)])]


def test_a_reading_much_later_knows_what_was_recorded_in_calls_before() -> None:
    unrecorded = Unrecorded()
    unrecorded.begin(0, 100)
    unrecorded.add(PROCESS, none(), row(1, ALLOC, 40))
    assert unrecorded.settle() == []
    unrecorded.add(PROCESS, row(2, MEASURE, 145, MODULES), none())
    assert [told(rows) for _, rows in unrecorded.settle()] == [[(2, ALLOC, MODULES, 5)]]


def reading(time_ns: int, size: int, owner: int, since_ns: int, flags: int = 0, most: int = 0) -> Rows:
    made = row(time_ns, MEASURE, size, owner, flags)
    made["address"], made["asked"] = since_ns, most
    return made


def seen(*rows: Rows | tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """What readings, and truths read at a time, make of it; each is settled before the next is known."""
    unrecorded = Unrecorded()
    unrecorded.begin(0, 100)
    found = [none()]
    for one in rows:
        if isinstance(one, tuple):
            unrecorded.see(one[0], [one[1]])
        else:
            is_reading = one["kind"] == MEASURE
            unrecorded.add(PROCESS, one[is_reading], one[~is_reading])
        found += [rows for _, rows in unrecorded.settle()]
    return told(np.concatenate(found))


def test_what_a_call_had_taken_when_the_truth_was_read_was_there_then() -> None:
    assert seen((5, 130), (6, 170), reading(9, 180, MODULES, since_ns=3)) == [
        (5, ALLOC, MODULES, 30),
        (6, FREE, MODULES, 30),
        (6, ALLOC, MODULES, 70),
        (9, FREE, MODULES, 70),
        (9, ALLOC, MODULES, 80),
    ]
    assert seen((5, 130), row(6, ALLOC, 40), (7, 190), reading(9, 190, MODULES, since_ns=3)) == [
        (5, ALLOC, MODULES, 30),
        (7, FREE, MODULES, 30),
        (7, ALLOC, MODULES, 50),
    ]


def test_what_was_there_before_a_call_began_was_not_yet_its_owners() -> None:
    assert seen((5, 130), reading(9, 180, MODULES, since_ns=6)) == [(9, ALLOC, MODULES, 80)]


def test_a_call_is_never_said_to_have_taken_more_than_it_did() -> None:
    assert seen((5, 190), reading(9, 110, MODULES, since_ns=3)) == [(5, ALLOC, MODULES, 10)]
    assert seen((5, 90), reading(9, 110, MODULES, since_ns=3)) == [(9, ALLOC, MODULES, 10)]


def test_what_a_call_had_given_back_when_the_truth_was_read_was_gone_then() -> None:
    made = reading(2, 150, MODULES, since_ns=1)
    assert seen(made, (5, 130), reading(9, 120, MODULES, since_ns=4)) == [
        (2, ALLOC, MODULES, 50),
        (5, FREE, MODULES, 50),
        (5, ALLOC, MODULES, 30),
        (9, FREE, MODULES, 30),
        (9, ALLOC, MODULES, 20),
    ]


def let_go(*of_others: tuple[int, int], used: int) -> list[tuple[int, int, int, int]]:
    """A process gives back 40 that another one has too, and reads `used`; the others read as they let go.

    What is of NCCL must all be of that process, whoever read.
    """
    unrecorded = Unrecorded()
    unrecorded.begin(0, 100)
    own = np.concatenate([row(1, ALLOC, 40), row(2, FREE, 40)])
    unrecorded.add(PROCESS, reading(3, used, NCCL, 3, OUTLIVED, most=40), own)
    for time_ns, size in of_others:
        unrecorded.add(OTHER, reading(time_ns, size, MODULES, time_ns, OUTLIVED, most=40), none())
    unrecorded.add(OTHER, row(20, MEASURE, 101, CONTEXT), none())
    made = unrecorded.settle()
    assert {who for who, rows in made if (rows["owner"] == NCCL).any()} <= {PROCESS}
    return told(np.concatenate([none(), *(rows for _, rows in made)]))


def test_memory_that_others_use_stays_its_makers_until_they_let_go() -> None:
    assert let_go((9, 120), (10, 100), used=140) == [
        (3, ALLOC, NCCL, 40),
        (9, FREE, NCCL, 40),
        (9, ALLOC, NCCL, 20),
        (10, FREE, NCCL, 20),
        (20, ALLOC, CONTEXT, 1),
    ]


def test_memory_that_others_had_let_go_of_before_is_free() -> None:
    assert let_go((1, 140), used=100) == [(20, ALLOC, CONTEXT, 1)]


def test_no_more_than_was_given_back_stays() -> None:
    assert let_go(used=145) == [(3, ALLOC, NCCL, 40)]  # 5 are of who took them, who says so later
    assert seen(reading(3, 145, NCCL, 3, OUTLIVED, most=40), reading(4, 145, CONTEXT, 4)) == [
        (3, ALLOC, NCCL, 40),
        (4, ALLOC, CONTEXT, 5),
    ]
