"""Where ranks meet: what is a place and what is a store, and what is refused."""

from __future__ import annotations

import functools
import gc
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from torch._C._distributed_c10d import FileStore

from tests.ranks import free_port, summed, together
from workbench.errors import MechanismError, UsageError
from workbench.mechanisms.file_store import made
from workbench.mechanisms.meeting import Place, _standing, _wait_for_host, address_of, meeting, private_store


def test_a_rank_that_is_refused_writes_no_more_into_the_store(tmp_path: Path) -> None:
    """Its store's end would make the file anew, where the others have just removed it."""
    path = tmp_path / "store"
    others = FileStore(str(made(path)), 2)
    others.set("world size", "2")
    with pytest.raises(UsageError, match="another says 2") as caught, meeting(Place(1, 3, f"file://{path}")):
        pass
    written = path.read_bytes()
    del caught
    gc.collect()
    assert path.read_bytes() == written


@pytest.mark.parametrize("cut", [None, 1, 3, 8, 12, 15])
def test_a_store_that_can_not_be_read_to_its_end_is_refused_at_once(cut: int | None, tmp_path: Path) -> None:
    path = tmp_path / "store"
    file = made(path)
    if cut is None:
        file.write_bytes(b"x")
    else:
        FileStore(str(file), 2).set("a key", "and a value")
        os.truncate(file, file.stat().st_size - cut)
    place, start = Place(1, 2, f"file://{path}", 20), time.monotonic()
    with pytest.raises(UsageError, match="no store, or one that was cut off"), meeting(place):
        pass
    assert time.monotonic() - start < 5
    assert path.exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"world_size": 0}, "has 1 to 2147483647 ranks, not 0"),
        ({"world_size": 1 << 31, "store": "tcp://h:1"}, "ranks, not 2147483648"),
        ({"rank": 0.0}, "a rank is a whole number, not 0.0"),
        ({"rank": 2, "world_size": 2, "store": "tcp://h:1"}, "rank 2 is not among the 2"),
        ({"rank": -1}, "rank -1 is not among"),
        ({"world_size": 2}, "2 ranks need a store"),
        ({"timeout_s": 0}, "timeout is above 0 and up to 100000000 s, not 0"),
        ({"timeout_s": float("inf")}, "not inf"),
        ({"timeout_s": float("nan")}, "not nan"),
        ({"timeout_s": "5"}, "timeout is a number of seconds, not '5'"),
        ({"timeout_s": 10**5000}, "not a number of thousands of digits"),
        ({"world_size": 10**5000}, "not a number of thousands of digits"),
        ({"store": "/tmp/x"}, "is no store"),
        ({"store": Path("/tmp/x")}, "is no store"),
        ({"store": "tcp://host"}, "is no store"),
        ({"store": "tcp://host:99999"}, "is no store"),
        ({"store": "file://host/x"}, "is no store"),
        ({"store": "file:///a?b"}, "is no store: write file:///path, with %23 for # and %3F for"),
        ({"store": "file:///a#"}, "is no store"),
        ({"store": "file:///a\nb"}, "is no store"),
        ({"store": "file:///a%00b"}, "is no store"),
        ({"store": "tcp://h:1?x"}, "is no store"),
    ],
)
def test_what_is_no_place_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Place(**given)


def test_stores_by_their_text() -> None:
    assert address_of("file:///a/b") == Path("/a/b")
    assert address_of("file:///a%23%3F%20%25b") == Path("/a#? %b")
    assert address_of("tcp://localhost:29500") == ("localhost", 29500)
    with private_store() as store:
        assert Path(str(address_of(store))).parent.is_dir()
    assert not Path(str(address_of(store))).parent.exists()


def test_a_file_that_is_gone_or_cut_off_is_not_waited_for(tmp_path: Path) -> None:
    """As torch would, for as long as the rank does."""
    path = tmp_path / "store"
    store = FileStore(str(path), 3)
    store.add("come", 1)
    store.add("come", 1)
    assert _standing(store, path) == (2, None)
    store.set("refused", "it is")
    assert _standing(store, path) == (2, "it is")
    with path.open("ab") as file:
        file.write(b"half")
    start = time.monotonic()
    with pytest.raises(MechanismError, match="died while it wrote"):
        _standing(store, path)
    path.unlink()
    with pytest.raises(MechanismError, match="gave up"):
        _standing(store, path)
    assert time.monotonic() - start < 1


def test_a_rank_waits_for_a_host_no_longer_than_its_timeout_and_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    store, start = f"tcp://127.0.0.1:{free_port()}", time.monotonic()
    with pytest.raises(MechanismError) as caught, meeting(Place(1, 2, store, 2)):
        pass
    assert 2 <= time.monotonic() - start < 3.5
    assert str(caught.value) == f"rank 1 found no store at {store} within 2 s: Connection refused"
    assert not capfd.readouterr().err


def test_a_rank_that_comes_before_rank_0_meets_it_at_a_host() -> None:
    store = f"tcp://localhost:{free_port()}"

    def late() -> float:
        time.sleep(0.7)
        return summed(Place(0, 2, store, 20))

    assert together(late, lambda: summed(Place(1, 2, store, 20))) == [8.0] * 2


def test_a_rank_that_reaches_itself_has_found_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one may that calls a host where nobody listens: the system gives each call a port, and once that very one."""
    port = free_port()
    from_there = functools.partial(socket.create_connection, source_address=("127.0.0.1", port))
    monkeypatch.setattr(socket, "create_connection", from_there)
    with pytest.raises(MechanismError, match=r"found no store at .* within 0\.01 s: nobody listens there$"):
        _wait_for_host("127.0.0.1", port, Place(1, 2, f"tcp://127.0.0.1:{port}", 0.01), time.monotonic() - 1)


def test_a_host_that_nobody_knows_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    says = r"rank 1 found no store at tcp://nowhere:1 within 0\.1 s: Name or service not known$"
    with pytest.raises(MechanismError, match=says), meeting(Place(1, 2, "tcp://nowhere:1", 0.1)):
        pass
