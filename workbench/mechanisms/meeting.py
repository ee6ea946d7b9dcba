"""Where the ranks of a process group meet: a store that nobody else is in, and that is gone when they are."""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from workbench.errors import MechanismError, UsageError

LOOKS_EVERY_S = 0.005
REFUSED = "refused"  # the store's key under which a rank that was refused tells the others why
MOST_RANKS = (1 << 31) - 1  # torch's
MOST_S = 10.0**8
NEVER = frozenset("#?\t\r\n")  # in a store's text: what follows would be cut off its path, or they be dropped from it
NAMED = 8  # ranks that a message names; of more it says how many there are


@dataclass(frozen=True)
class Place:
    """A rank's place among the ranks of a group, and where they meet."""

    rank: int = 0
    world_size: int = 1
    store: str | None = None  # file:///path or tcp://host:port, for all ranks the same; none: a private file, for one
    timeout_s: float = 300.0  # for the ranks to meet, and for every collective

    def __post_init__(self) -> None:
        """Refuses what can not be a place."""
        for what, number in (("rank", self.rank), ("world size", self.world_size)):
            if not isinstance(number, int):
                raise UsageError(f"a {what} is a whole number, not {number!r}")
        if not 1 <= self.world_size <= MOST_RANKS:
            raise UsageError(f"a process group has 1 to {MOST_RANKS} ranks, not {self.world_size}")
        if not 0 <= self.rank < self.world_size:
            raise UsageError(f"rank {self.rank} is not among the {self.world_size} of its group: they count from 0")
        if math.isnan(self.timeout_s) or not 0 < self.timeout_s <= MOST_S:
            raise UsageError(f"a process group's timeout is above 0 and up to {MOST_S:.0f} s, not {self.timeout_s}")
        if self.store is None and self.world_size > 1:
            raise UsageError(f"{self.world_size} ranks need a store to meet in: file:///path or tcp://host:port")
        if self.store is not None:
            address_of(self.store)


def address_of(store: str) -> tuple[str, int] | Path:
    """Gives host and port, or the file, that a store's text names."""
    with suppress(ValueError):
        parts = urlsplit("" if NEVER & set(store) else store)
        path = os.fsdecode(unquote_to_bytes(parts.path))
        if parts.scheme == "file" and not parts.netloc and len(path) > 1 and "\0" not in path:
            return Path(path)
        if parts.scheme == "tcp" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    how = "file:///path, with %23 for # and %3F for ?, or tcp://host:port"
    raise UsageError(f"{store!r} is no store: write {how}")


@contextmanager
def private_store() -> Iterator[str]:
    """A file to meet in, in a new folder that only this user can enter; the folder is gone when the block ends."""
    owner = os.getpid()
    folder = tempfile.mkdtemp(prefix="workbench-group-")
    try:
        yield Path(folder, "store").absolute().as_uri()
    finally:
        if os.getpid() == owner:  # not in a fork that leaves the block: the folder is its parent's
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def meeting(place: Place) -> Iterator[Any]:
    """The store of a group, torch's, when every rank has come to it; the file of a file store goes with its block."""
    if place.store is None:
        with private_store() as store, _at(address_of(store), place) as met:
            yield met
    else:
        with _at(address_of(place.store), place) as met:
            yield met


@contextmanager
def _at(address: tuple[str, int] | Path, place: Place) -> Iterator[Any]:
    deadline = time.monotonic() + place.timeout_s
    if not isinstance(address, Path):
        yield _met(_tcp_store(*address, place), place, deadline)
        return
    owner, is_ours = os.getpid(), True
    store = _file_store(address, place, deadline)
    try:
        yield _met(store, place, deadline, address)
    except UsageError:
        if place.rank:  # the store may be that of others
            is_ours = False
            _keep(store)
        raise
    finally:
        # Every rank removes it: torch makes it anew where a rank says its goodbye in it after another has removed it.
        if is_ours and os.getpid() == owner:
            address.unlink(missing_ok=True)


def _file_store(path: Path, place: Place, deadline: float) -> Any:
    from torch._C._distributed_c10d import FileStore

    if place.rank == 0:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise UsageError(f"the store {path} is taken: remove it if no group is in it, or name another") from None
        except OSError as error:
            raise UsageError(f"the store {path} can not be made: {error.strerror}") from None
    while (owner := _owner(path)) is None:
        if time.monotonic() > deadline:
            raise MechanismError(f"rank 0 did not make the store {path} within {place.timeout_s:g} s")
        time.sleep(LOOKS_EVERY_S)
    if owner != os.getuid():
        raise UsageError(f"the store {path} is another user's: name another")
    if not _is_whole(path):
        raise UsageError(
            f"{path} is no store, or one that was cut off: remove it if no group is in it, or name another"
        )
    store = FileStore(os.fsencode(path), place.world_size)  # type: ignore[arg-type]  # a path is bytes, UTF-8 or not
    store.set_timeout(timedelta(seconds=place.timeout_s))
    return store


def _owner(path: Path) -> int | None:
    """Who made a file, or a link to one; None where there is none."""
    try:
        return path.lstat().st_uid
    except FileNotFoundError:
        return None


def _is_whole(path: Path) -> bool:
    """Whether a file store can be read to its end, or is gone: torch would try for ever."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # torch writes with the lock held
            data = file.read()
    except FileNotFoundError:
        return True
    at = pieces = 0
    while at + 4 <= len(data):  # a key or a value, behind its length
        at, pieces = at + 4 + int.from_bytes(data[at : at + 4], "little"), pieces + 1
    return at == len(data) and pieces % 2 == 0


def _tcp_store(host: str, port: int, place: Place) -> Any:
    from torch._C._distributed_c10d import TCPStore

    known: dict[str, Any] = {"timeout": timedelta(seconds=place.timeout_s), "wait_for_workers": False}
    if place.rank == 0:
        # torch itself would listen on every address of the machine.
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise UsageError(f"no store can be at {host}:{port}: {error.strerror}; name another port") from None
        known["master_listen_fd"] = listener.detach()
    try:
        return TCPStore(host, port, place.world_size, place.rank == 0, **known)
    except RuntimeError as error:
        raise MechanismError(f"rank {place.rank} found no store at {host}:{port}: {_line(error)}") from None


def _met(store: Any, place: Place, deadline: float, file: Path | None = None) -> Any:
    """Comes to a store, and waits for the others. A file is gone when a rank gave up: torch would wait for it."""
    said = store.compare_set("world size", "", str(place.world_size)).decode()
    if said != str(place.world_size):
        _refuse(store, f"rank {place.rank} says that the group has {place.world_size} ranks, another says {said}")
    if store.add(f"rank {place.rank}", 1) > 1:
        _refuse(store, f"rank {place.rank} of this group is there already")
    names = [f"rank {rank}" for rank in range(place.world_size)]
    while True:
        if not _is_there(file):
            raise MechanismError("another rank gave up while this one waited for it")
        if file and not _is_whole(file):
            _keep(store)
            raise MechanismError(f"another rank died while it wrote into the store {file}")
        if store.check(names):
            return store
        if store.check([REFUSED]):
            raise UsageError(store.get(REFUSED).decode())
        if time.monotonic() > deadline:
            missing = [name for name in names if not store.check([name])]
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            raise MechanismError(f"{', '.join(missing[:NAMED])}{more} did not come within {place.timeout_s:g} s")
        time.sleep(LOOKS_EVERY_S)


def _keep(store: Any) -> None:
    """Never lets a store end: at its end it would write into its file, or a new one."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(store))


def _is_there(file: Path | None) -> bool:
    return file is None or file.exists()


def _refuse(store: Any, why: str) -> None:
    store.set(REFUSED, why)
    raise UsageError(why)


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
