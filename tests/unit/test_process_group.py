"""Process groups by gloo: ranks that meet, ranks that do not, and nothing left of either."""

from __future__ import annotations

import gc
import os
import re
import resource
import signal
import socket
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from tests.ranks import free_port, ranks_of, summed, together
from workbench.errors import MechanismError, UsageError, WorkbenchError
from workbench.mechanisms.meeting import MOST_RANKS, Place
from workbench.mechanisms.process_group import KINDS, ProcessGroup, described, why_not

SOON_S = 2.0  # a timeout that a test waits for


def left(folder: Path) -> tuple[int, ...]:
    """Files, threads and shared memory of this process, and private folders of groups."""
    gc.collect()  # what earlier tests dropped is not to go while something is counted
    tasks = (len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task"))
    return (*tasks, len(os.listdir("/dev/shm")), len(list(folder.glob("workbench-group-*"))))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_rank_alone_needs_no_store_of_its_caller(temporary: Path) -> None:
    with ProcessGroup("gloo"):
        [folder] = temporary.glob("workbench-group-*")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        store = folder / "store"
        assert set(folder.iterdir()) == {store, store.resolve()}
        assert stat.S_IMODE(store.stat().st_mode) == 0o600
        assert described() == {"rank": 0, "world_size": 1, "backend": "gloo"}
    assert not dist.is_initialized()
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("name", ["a#b", "a?b", "a b", "a%23b", "\N{SNOWMAN}", "a\nb", "a\udcffb"])
def test_a_private_store_is_in_its_folder_whatever_the_folder_s_name(
    name: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary / name))
    with ProcessGroup("gloo"):
        [folder] = (temporary / name).iterdir()
        assert set(folder.iterdir()) == {folder / "store", (folder / "store").resolve()}
        assert list(temporary.iterdir()) == [temporary / name]
    assert not list((temporary / name).iterdir())


def test_ranks_meet_at_a_host_that_has_only_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    assert together(*ranks_of(f"tcp://[::1]:{free_port()}", 2, 2)) == [8.0] * 2


@pytest.mark.parametrize("kind", ["file", "tcp"])
def test_of_a_huge_group_it_is_told_who_is_missing_in_little_memory_and_time(kind: str, temporary: Path) -> None:
    store = f"file://{temporary}/store" if kind == "file" else f"tcp://127.0.0.1:{free_port()}"

    def lonely() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + (1 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        return summed(Place(0, MOST_RANKS, store, SOON_S))

    comes = Place(3, MOST_RANKS, store, 20)
    said, _ = together(lonely, lambda: summed(comes))
    named = ", ".join(f"rank {rank}" for rank in (1, 2, 4, 5, 6, 7, 8, 9))
    assert str(said) == f"{named} and {MOST_RANKS - 10} more did not come within 2 s"


@pytest.mark.parametrize("kind", ["file", "tcp"])
def test_ranks_meet_in_a_store(kind: str, temporary: Path) -> None:
    store = f"file://{temporary}/store" if kind == "file" else f"tcp://127.0.0.1:{free_port()}"
    assert together(*ranks_of(store, 3, 3, 3)) == [12.0] * 3
    assert not list(temporary.iterdir())


def test_a_group_has_begun_when_all_of_its_ranks_have(temporary: Path) -> None:
    """One that left before would cut off those that still connect to it."""
    first, last = (Place(rank, 2, f"file://{temporary}/store", 20) for rank in range(2))
    made, done = dist.init_process_group, list[float]()

    def slowly(*given: Any, **known: Any) -> None:
        made(*given, **known)
        time.sleep(0.5)
        done.append(time.monotonic())

    def begins(place: Place) -> float:
        with ProcessGroup("gloo", place):
            return time.monotonic()

    def begins_slowly() -> float:
        dist.init_process_group = slowly
        begins(last)
        return done[0]

    begun, slow = together(lambda: begins(first), begins_slowly)
    assert begun > slow


def test_ranks_that_do_not_agree_end_at_once(temporary: Path) -> None:
    start = time.monotonic()
    said = together(*ranks_of(f"file://{temporary}/store", 2, 3))
    assert all(isinstance(each, WorkbenchError) for each in said)
    assert any("another says" in str(each) for each in said)
    assert time.monotonic() - start < 15
    assert not list(temporary.iterdir())


def test_a_rank_that_is_there_twice_is_refused(temporary: Path) -> None:
    store = f"file://{temporary}/store"
    twice = Place(1, 3, store, SOON_S)
    said = together(*ranks_of(store, 3, timeout_s=SOON_S), lambda: summed(twice), lambda: summed(twice))
    assert "rank 1 of this group is there already" in {str(each) for each in said}
    assert all(isinstance(each, WorkbenchError) for each in said)


def test_a_store_that_is_taken_is_refused_and_left_alone(temporary: Path) -> None:
    (temporary / "store").write_text("mine")
    with pytest.raises(UsageError, match="is taken"):
        summed(Place(store=f"file://{temporary}/store"))
    assert (temporary / "store").read_text() == "mine"
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("folder", "/folder is no store: name another$"),
        ("file", "/file is no store"),
        ("pipe", "is no store"),
        ("link", "is no store"),
        ("file/below", "the store .*/file/below can not be read: Not a directory; name another$"),
        ("x" * 300, "can not be read: File name too long"),
    ],
)
def test_what_can_not_be_a_store_is_refused_in_one_line(name: str, says: str, temporary: Path) -> None:
    (temporary / "folder").mkdir()
    (temporary / "file").touch()
    (temporary / "link").symlink_to(temporary / "file")
    os.mkfifo(temporary / "pipe")

    def comes() -> float:
        signal.alarm(10)  # who would read the pipe would wait for ever
        return summed(Place(1, 2, f"file://{temporary / name}", SOON_S))

    [said] = together(comes)
    assert isinstance(said, UsageError)
    assert re.search(says, str(said))


def test_a_rank_that_dies_while_it_writes_into_the_store_ends_the_others(temporary: Path) -> None:
    path = temporary / "store"

    def dies() -> None:
        with suppress(WorkbenchError):
            summed(Place(0, 3, f"file://{path}", 20))

    def writes_half() -> None:
        while not (path.exists() and path.stat().st_size):
            time.sleep(0.01)
        time.sleep(0.2)
        with path.open("ab") as file:
            file.write(b"half")

    start = time.monotonic()
    waits = Place(1, 3, f"file://{path}", 20)
    _, said, _ = together(dies, lambda: summed(waits), writes_half)
    assert "died while it wrote" in str(said) or "gave up" in str(said)
    assert time.monotonic() - start < 15


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match=f"no store can be at tcp://127.0.0.1:{port}: Address already in use"):
            summed(Place(store=f"tcp://127.0.0.1:{port}"))


def test_a_store_is_not_seen_from_other_machines() -> None:
    port = free_port()
    with ProcessGroup("gloo", Place(store=f"tcp://127.0.0.1:{port}")):
        listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line]
        mine = [address for address in listening if address.endswith(f":{port:04X}")]
        assert mine == [f"0100007F:{port:04X}"]


@pytest.mark.parametrize("dies", ["before it comes", "when it has come"])
def test_a_rank_that_dies_ends_the_others_in_time_and_the_store(dies: str, temporary: Path) -> None:
    store = f"file://{temporary}/store"

    def dying() -> float:
        if dies == "when it has come":
            dist.init_process_group = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
            return summed(Place(1, 2, store, SOON_S))
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    start = time.monotonic()
    first, second = together(*ranks_of(store, 2, timeout_s=SOON_S), dying)
    assert second is None
    assert isinstance(first, MechanismError)
    assert len(str(first).splitlines()) == 1
    assert time.monotonic() - start < 5 * SOON_S
    assert not list(temporary.iterdir())


def test_the_store_goes_where_rank_0_is_the_one_that_died(temporary: Path) -> None:
    store = f"file://{temporary}/store"

    def dying() -> float:
        dist.init_process_group = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        return summed(Place(0, 2, store, SOON_S))

    first, second = together(dying, lambda: summed(Place(1, 2, store, SOON_S)))
    assert first is None
    assert isinstance(second, MechanismError)
    assert not list(temporary.iterdir())


def test_a_thousand_groups_leave_nothing(temporary: Path) -> None:
    found = []
    for rounds in (10, 1000):  # the first ones make what stays
        for _ in range(rounds):
            with ProcessGroup("gloo"):
                pass
        found.append(left(temporary))
    assert found[0] == found[1]
    assert not list(temporary.iterdir())


def test_a_fork_leaves_its_parent_s_group_alone(temporary: Path) -> None:
    with ProcessGroup("gloo") as group:
        if (child := os.fork()) == 0:
            code = 1
            try:
                ProcessGroup("gloo").begin()
            except UsageError as error:
                code = 0 if "was forked from one that has" in str(error) else 2
            group.end()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        [folder] = temporary.glob("workbench-group-*")
        assert (folder / "store").exists()
        dist.all_reduce(torch.ones(2))


def test_a_fork_that_ends_as_programs_do_neither_hangs_nor_takes_the_store() -> None:
    program = (
        "import os, sys, glob\n"
        "from workbench.mechanisms.process_group import ProcessGroup\n"
        "with ProcessGroup('gloo') as group:\n"
        "    if os.fork() == 0: sys.exit(0)\n"
        "    assert os.wait()[1] == 0\n"
        "    import torch, torch.distributed as dist; dist.all_reduce(torch.ones(2))\n"
        "print('done')\n"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "done\n"


def test_a_start_that_fails_leaves_nothing(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such network\nand more")

    before = left(temporary)
    monkeypatch.setattr(dist, "init_process_group", fails)
    with pytest.raises(MechanismError, match=r"'gloo' failed to begin: no such network$"):
        ProcessGroup("gloo").begin()
    assert left(temporary) == before
    assert not dist.is_initialized()


def test_a_group_that_somebody_else_destroyed_ends_all_the_same(temporary: Path) -> None:
    group = ProcessGroup("gloo")
    group.begin()
    dist.destroy_process_group()
    group.end()
    group.end()
    assert not list(temporary.iterdir())


def test_a_group_that_somebody_else_made_since_is_left_alone(temporary: Path) -> None:
    with ProcessGroup("gloo"):
        dist.destroy_process_group()
        theirs = FileStore(str(temporary / "theirs"), 1)
        dist.init_process_group("gloo", store=theirs, rank=0, world_size=1)
    try:
        assert dist.is_initialized()
        dist.all_reduce(torch.ones(2))
        assert not list(temporary.glob("workbench-group-*"))
    finally:
        dist.destroy_process_group()


def test_a_start_that_fails_late_ends_what_there_was_of_its_group(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dist.init_process_group

    def fails(*given: Any, **known: Any) -> None:
        made(*given, **known)
        raise RuntimeError("a rank is gone")

    monkeypatch.setattr(dist, "init_process_group", fails)
    with pytest.raises(MechanismError, match="a rank is gone"):
        ProcessGroup("gloo").begin()
    assert not dist.is_initialized()
    assert not list(temporary.iterdir())


def test_what_can_not_be_is_refused_with_the_reason() -> None:
    assert why_not("gloo", 0) is None
    assert {name for name in KINDS if why_not(name, 0)} == {"nccl-lazy", "nccl-eager"}
    with pytest.raises(UsageError, match="did you mean 'gloo'"):
        ProcessGroup("glooo")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="NCCL needs a GPU, and this machine has none"):
            ProcessGroup("nccl-eager").begin()
    with ProcessGroup("gloo"), pytest.raises(UsageError, match="has a process group already"):
        ProcessGroup("gloo").begin()
