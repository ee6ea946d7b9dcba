"""A store in a file: the link at its path is one group's at a time, the file that it leads to is that group's for ever.

Torch knows a file store by its name alone, and at its end writes into it and may remove it. By a name that groups have
one after the other, a rank that leaves late would do so in the next group's. So torch is given a name that no other
group has, and the path leads there.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from workbench.errors import UsageError


def made(path: Path) -> Path:
    """A new file for a group, to which the path leads from now on; refused where something else is there."""
    file = Path(f"{path}.{secrets.token_hex(8)}")
    try:
        path.symlink_to(file.name)
    except FileExistsError:
        raise UsageError(f"the store {path} is taken: remove it if no group is in it, or name another") from None
    except OSError as error:
        raise UsageError(f"the store {path} can not be made: {error.strerror}") from None
    try:
        file.touch(0o600, exist_ok=False)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UsageError(f"the store {path} can not be made: {error.strerror}") from None
    return file


def found(path: Path) -> Path | None:
    """The file of the group that is at a path; None where there is none: not yet, or no longer."""
    with _in_one_line(path), suppress(FileNotFoundError):
        link = path.lstat()
        if link.st_uid != os.getuid():
            raise UsageError(f"the store {path} is another user's: name another")
        name = os.readlink(path) if stat.S_ISLNK(link.st_mode) else ""
        if not re.fullmatch(re.escape(path.name) + r"\.[0-9a-f]{16}", name):
            raise UsageError(f"{path} is no store: name another")
        file = path.with_name(name)
        file.lstat()
        return file
    return None


def removed(path: Path, file: Path) -> None:
    """Removes a group's file, and the link to it: not what another group, or somebody else, has at the path since.

    Who has locked the file is alone with both. The link goes first: who finds no file knows that there is no link.
    """
    with suppress(FileNotFoundError), file.open("r+b") as opened, _locked(opened, fcntl.LOCK_EX):
        if _leads_to(path, file):
            path.unlink()
        file.unlink()


def said_in(file: Path) -> dict[str, str] | None:
    """What is said in a file store; nothing where it is gone. None: it was cut off, for torch to wait for the rest."""
    data = b""
    with _in_one_line(file), suppress(FileNotFoundError), file.open("rb") as opened, _locked(opened, fcntl.LOCK_SH):
        data = opened.read()
    at, pieces = 0, list[str]()
    while at + 4 <= len(data):  # a key or a value, behind its length
        begin, at = at + 4, at + 4 + int.from_bytes(data[at : at + 4], "little")
        pieces.append(data[begin:at].decode(errors="replace").removeprefix("/"))  # which torch puts before a key
    if at != len(data) or len(pieces) % 2:
        return None
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def _leads_to(path: Path, file: Path) -> bool:
    with suppress(OSError):  # none there, or no link
        return os.readlink(path) == file.name
    return False


@contextmanager
def _locked(opened: BinaryIO, how: int) -> Iterator[None]:
    """Holds the lock that torch writes with; gives it back by itself, for a fork may keep the file open."""
    fcntl.flock(opened, how)
    try:
        yield
    finally:
        fcntl.flock(opened, fcntl.LOCK_UN)


@contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    """Turns what the system says of a store into one clear line."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"the store {path} can not be read: {error.strerror}; name another") from None
