"""Where the ranks of a process group meet: a store that nobody else is in, and that is gone when they are."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from workbench.errors import MechanismError, UsageError, short
from workbench.mechanisms.file_store import found, made, removed, said_in

LOOKS_EVERY_S = 0.005
CALLS_EVERY_S = 0.05  # a host: each time its name is looked up
CALL_S = 1.0  # what it has to answer; also the least that torch is given, which counts whole seconds
REFUSED = "refused"  # the store's key under which a rank that was refused tells the others why
WORLD_SIZE = "world size"  # the one under which the first to come says how many ranks the group has
COME = "come"  # the one under which ranks are counted: a look at each of a huge group would never end
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
                raise UsageError(f"a {what} is a whole number, not {short(number)}")
        if not 1 <= self.world_size <= MOST_RANKS:
            raise UsageError(f"a process group has 1 to {MOST_RANKS} ranks, not {short(self.world_size)}")
        if not 0 <= self.rank < self.world_size:
            raise UsageError(
                f"rank {short(self.rank)} is not among the {self.world_size} of its group: they count from 0"
            )
        if not isinstance(self.timeout_s, int | float):
            raise UsageError(f"a process group's timeout is a number of seconds, not {short(self.timeout_s)}")
        if not 0 < self.timeout_s <= MOST_S:
            raise UsageError(
                f"a process group's timeout is above 0 and up to {MOST_S:.0f} s, not {short(self.timeout_s)}"
            )
        if self.store is None and self.world_size > 1:
            raise UsageError(f"{self.world_size} ranks need a store to meet in: file:///path or tcp://host:port")
        if self.store is not None:
            address_of(self.store)


def address_of(store: str) -> tuple[str, int] | Path:
    """Gives host and port, or the file, that a store's text names."""
    with suppress(ValueError, TypeError):
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
    """The store of a group, torch's, when every rank has come to it; a store in a file goes with its block."""
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
        yield _met(_tcp_store(*address, place, deadline), place, deadline)
        return
    owner, is_ours = os.getpid(), True
    file = made(address) if place.rank == 0 else _found(address, place, deadline)
    try:
        store = _file_store(file, place)
        yield _met(store, place, deadline, file)
    except UsageError:
        if place.rank:  # the store may be that of others
            is_ours = False
            _keep(store)
        raise
    finally:
        # Every rank removes it, for any other may be dead; before its own store ends, which then makes nothing anew.
        if is_ours and os.getpid() == owner:
            removed(address, file)


def _found(path: Path, place: Place, deadline: float) -> Path:
    """The file of this rank's group. One in which all ranks have met is another group's: it waits for that to leave."""
    while True:
        file = found(path)
        said = said_in(file) if file else {}
        if said is None:
            raise UsageError(
                f"{path} is no store, or one that was cut off: remove it if no group is in it, or name another"
            )
        if file and not (COME in said and said[COME] == said.get(WORLD_SIZE)):
            return file
        if time.monotonic() > deadline:
            if file:
                raise UsageError(f"the store {path} was another group's for {place.timeout_s:g} s: name another")
            raise MechanismError(f"rank 0 did not make the store {path} within {place.timeout_s:g} s")
        time.sleep(LOOKS_EVERY_S)


def _file_store(file: Path, place: Place) -> Any:
    from torch._C._distributed_c10d import FileStore

    store = FileStore(os.fsencode(file), place.world_size)  # type: ignore[arg-type]  # a path is bytes, UTF-8 or not
    store.set_timeout(timedelta(seconds=place.timeout_s))
    return store


def _tcp_store(host: str, port: int, place: Place, deadline: float) -> Any:
    from torch._C._distributed_c10d import TCPStore

    known: dict[str, Any] = {"wait_for_workers": False}
    if place.rank == 0:
        # torch itself would listen on every address of the machine.
        try:
            listener = socket.create_server((host, port), family=_family(host, port))
        except OSError as error:
            why = f"{error.strerror}; name another host or port"
            raise UsageError(f"no store can be at {place.store}: {why}") from None
        known["master_listen_fd"] = listener.detach()
    else:
        _wait_for_host(host, port, place, deadline)
    known["timeout"] = timedelta(seconds=max(deadline - time.monotonic(), CALL_S))
    try:
        store = TCPStore(host, port, place.world_size, place.rank == 0, **known)
    except RuntimeError as error:
        raise MechanismError(f"rank {place.rank} found no store at {place.store}: {_line(error)}") from None
    store.set_timeout(timedelta(seconds=place.timeout_s))
    return store


def _wait_for_host(host: str, port: int, place: Place, deadline: float) -> None:
    """Returns when somebody listens there: torch would wait for twice its timeout, and then print its stack."""
    while True:
        left = deadline - time.monotonic()
        try:
            with socket.create_connection((host, port), min(max(left, LOOKS_EVERY_S), CALL_S)) as call:
                if call.getsockname() != call.getpeername():  # else it was given the very port, and reached itself
                    return
            why = "nobody listens there"
        except OSError as error:
            why = error.strerror or str(error)
        if left < 0:
            who = f"rank {place.rank} found no store at {place.store}"
            raise MechanismError(f"{who} within {place.timeout_s:g} s: {why}")
        time.sleep(CALLS_EVERY_S)


def _family(host: str, port: int) -> socket.AddressFamily:
    """IPv6 only where a host has nothing else: its ranks may be on machines that have none."""
    families = {family for family, *_ in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return socket.AF_INET if socket.AF_INET in families else socket.AF_INET6


def _met(store: Any, place: Place, deadline: float, file: Path | None = None) -> Any:
    """Comes to a store, and waits for the others. A file is gone when a rank gave up: torch would wait for it."""
    said = store.compare_set(WORLD_SIZE, "", str(place.world_size)).decode()
    if said != str(place.world_size):
        _refuse(store, f"rank {place.rank} says that the group has {place.world_size} ranks, another says {said}")
    if store.add(f"rank {place.rank}", 1) > 1:
        _refuse(store, f"rank {place.rank} of this group is there already")
    store.add(COME, 1)
    while True:
        come, refused = _standing(store, file)
        if come == place.world_size:
            return store
        if refused is not None:
            raise UsageError(refused)
        if time.monotonic() > deadline:
            who = _missing(store, file, place.world_size, place.world_size - come)
            raise MechanismError(f"{who} did not come within {place.timeout_s:g} s")
        time.sleep(LOOKS_EVERY_S)


def _standing(store: Any, file: Path | None) -> tuple[int, str | None]:
    """How many ranks have come, and why one was refused. Torch would wait for a file that is gone or cut off."""
    if file is None:
        return int(store.get(COME)), store.get(REFUSED).decode() if store.check([REFUSED]) else None
    said = said_in(file)
    if said is None:
        _keep(store)
        raise MechanismError(f"another rank died while it wrote into the store {file}")
    if COME not in said:
        raise MechanismError("another rank gave up while this one waited for it")
    return int(said[COME]), said.get(REFUSED)


def _missing(store: Any, file: Path | None, world_size: int, count: int) -> str:
    """Names the first of the ranks that have not come."""
    said = None if file is None else said_in(file) or {}
    names = (f"rank {rank}" for rank in range(world_size))
    missing = (name for name in names if (name not in said if said is not None else not store.check([name])))
    first = islice(missing, min(count, NAMED))
    return ", ".join(first) + (f" and {count - NAMED} more" if count > NAMED else "")


def _keep(store: Any) -> None:
    """Never lets a store end: at its end it would write into its file, or a new one."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(store))


def _refuse(store: Any, why: str) -> None:
    store.set(REFUSED, why)
    raise UsageError(why)


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
