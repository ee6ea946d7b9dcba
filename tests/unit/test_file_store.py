"""One store for one group after the other: nobody reads, writes or removes what another has there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from tests.ranks import summed, together
from workbench.errors import UsageError
from workbench.mechanisms.file_store import found, made, removed, said_in
from workbench.mechanisms.meeting import Place
from workbench.mechanisms.process_group import ProcessGroup


def inode(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return path.stat().st_ino
    return None


def wait_until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def two_of(path: Path) -> list[Place]:
    return [Place(rank, 2, f"file://{path}", 20) for rank in range(2)]


def met_in(path: Path) -> Path:
    """The file of a group at a path all of whose ranks have met."""
    file = made(path)
    theirs = FileStore(str(file), 2)
    theirs.set("world size", "2")
    theirs.add("come", 2)
    return file


def test_groups_meet_one_after_the_other_in_one_store(tmp_path: Path) -> None:
    def rounds(rank: int) -> list[float]:
        return [summed(Place(rank, 3, f"file://{tmp_path}/store", 20)) for _ in range(20)]

    assert together(*(lambda rank=rank: rounds(rank) for rank in range(3))) == [[12.0] * 20] * 3
    assert not list(tmp_path.iterdir())


def test_a_rank_that_leaves_late_leaves_the_next_group_s_store_alone(tmp_path: Path) -> None:
    path = tmp_path / "store"
    first, last = two_of(path)

    def leaves_late() -> float:
        with ProcessGroup("gloo", last):
            dist.all_reduce(torch.ones(4))
            with path.open("rb") as mine:  # no other file has its number then
                wait_until(lambda: inode(path) not in (os.fstat(mine.fileno()).st_ino, None))
        return summed(last)

    assert together(lambda: [summed(first), summed(first)], leaves_late) == [[8.0] * 2, 8.0]
    assert not list(tmp_path.iterdir())


def test_what_somebody_else_has_where_the_store_was_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store"
    first, last = two_of(path)

    def leaves_late() -> float:
        with ProcessGroup("gloo", last):
            dist.all_reduce(torch.ones(4))
            wait_until(lambda: not path.exists())
            path.write_text("somebody else's")
        return 0.0

    together(lambda: summed(first), leaves_late)
    assert [each.name for each in tmp_path.iterdir()] == ["store"]
    assert path.read_text() == "somebody else's"


def test_a_rank_that_comes_early_waits_until_the_group_before_has_left(tmp_path: Path) -> None:
    path = tmp_path / "store"
    file = met_in(path)
    before = file.read_bytes()
    first, early = two_of(path)

    def comes_when_they_leave() -> float:
        time.sleep(0.5)
        assert file.read_bytes() == before
        removed(path, file)
        return summed(first)

    assert together(comes_when_they_leave, lambda: summed(early)) == [8.0] * 2
    assert not list(tmp_path.iterdir())


def test_a_store_that_another_group_does_not_leave_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store"
    file = met_in(path)
    before = file.read_bytes()
    with pytest.raises(UsageError, match=r"store was another group's for 0\.2 s: name another$"):
        summed(Place(1, 2, f"file://{path}", 0.2))
    with pytest.raises(UsageError, match="is taken: remove it if no group is in it"):
        summed(Place(0, 2, f"file://{path}", 0.2))
    assert file.read_bytes() == before


def test_a_group_s_file_and_link_go_in_any_order_of_ranks(tmp_path: Path) -> None:
    path = tmp_path / "store"
    assert found(path) is None
    first = made(path)
    assert found(path) == first
    assert said_in(first) == {}
    removed(path, first)
    assert found(path) is None
    second = made(path)
    removed(path, first)  # of the group before, which has gone
    first.touch()  # and as torch makes it anew
    removed(path, first)
    assert found(path) == second
    assert set(tmp_path.iterdir()) == {path, second}
    removed(path, second)
    assert not list(tmp_path.iterdir())


def test_a_store_that_can_not_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "touch", fails)
    with pytest.raises(UsageError, match=r"store can not be made: No space left on device$"):
        made(tmp_path / "store")
    assert not list(tmp_path.iterdir())
