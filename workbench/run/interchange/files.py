"""What an importer gives, what an exporter takes, and files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Imported:
    """The tables of a foreign file in this project's schemas, and what is known about it for the manifest."""

    tables: dict[str, pa.Table]
    facts: dict[str, object]


class Named(Protocol):
    """A run's manifest, as far as an exporter looks at it."""

    @property
    def id(self) -> str:
        """The run's id."""

    @property
    def name(self) -> str:
        """The run's name."""


class Tables(Protocol):
    """A run, as far as an exporter looks at it."""

    @property
    def manifest(self) -> Named:
        """Its provenance."""

    def table(self, name: str) -> pa.Table:
        """One of the tables of `schema.TABLES`."""


def read_whole(path: Path) -> bytes:
    """The bytes of a regular file."""
    if not path.is_file():
        raise WorkbenchError(f"{path} is not a file: name the snapshot to import")
    try:
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise WorkbenchError(f"cannot read {path}: {reason(error)}") from None


@contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary path beside `path`; what the block leaves there becomes `path` if the block succeeds."""
    if os.path.lexists(path) and not overwrite:
        raise WorkbenchError(f"{path} exists: choose another name or say overwrite")
    if not path.parent.is_dir():
        raise WorkbenchError(f"cannot write {path}: {path.parent} is no folder")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        _move(temporary, path)
    except OSError as error:
        raise WorkbenchError(f"cannot write {path}: {reason(error)}") from None
    finally:
        _discard(temporary)


def reason(error: BaseException) -> str:
    """Why the system refused, in one line."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0]


def _move(temporary: Path, path: Path) -> None:
    if temporary.is_dir() and path.is_dir():  # never empty a folder that may hold other files
        for part in sorted(temporary.iterdir()):
            part.replace(path / part.name)
    else:
        temporary.replace(path)


def _discard(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        with suppress(OSError):  # it never came to be, and why has been said
            temporary.unlink()
