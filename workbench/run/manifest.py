"""What is known about a run besides its events: what was run, where, when, with which versions, and how it ended."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.run.migrations import migrate

FILE = "manifest.json"

RECORDING = "recording"  # the scribe holds the run's lock
COMPLETE = "complete"  # ended by itself, whatever its exit code
FAILED = "failed"  # ended by an error, a signal or a lack of memory
INCOMPLETE = "incomplete"  # the recording stopped before the program did
IMPORTED = "imported"


@dataclass
class Manifest:
    """The provenance of one run; kept as `manifest.json` in its folder."""

    id: str
    name: str
    schema: int
    status: str
    started: str  # wall clock, ISO 8601 with the zone
    started_ns: int  # the same moment on CLOCK_MONOTONIC; times in the tables count from here
    duration_s: float | None = None
    command: list[str] | None = None
    config: dict[str, Any] | None = None
    workload: dict[str, Any] | None = None
    exit_code: int | None = None
    error: dict[str, Any] | None = None  # what, phase, and what was alive by tier and owner
    shortages: list[dict[str, Any]] = field(default_factory=list)  # each time memory ran out: the same
    host: dict[str, Any] = field(default_factory=dict)
    gpus: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)  # name -> what it could not see
    counts: dict[str, int] = field(default_factory=dict)  # rows a table
    lost: int = 0  # events that were dropped; 0 in a sound run
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def new(cls, name: str, schema: int, **known: Any) -> Manifest:
        """A manifest of a run that starts now."""
        started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return cls(new_id(name), name, schema, RECORDING, started, time.monotonic_ns(), **known)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of the run in `folder`, brought up to the present schema."""
        document = _read_json(folder / FILE)
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            return cls(**{key: value for key, value in migrate(document, folder).items() if key in known})
        except TypeError as error:
            raise RunError(f"{folder / FILE} is not a manifest of a run: {error}") from None

    def write(self, folder: Path) -> None:
        """Replace the manifest in `folder`, whole or not at all."""
        target = folder / FILE
        temporary = target.with_suffix(".tmp")
        with temporary.open("w") as file:
            json.dump(dataclasses.asdict(self), file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)


def new_id(name: str) -> str:
    """An id that sorts by time and tells the name: 20261121-101500-demo-3fa9."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:40].strip("-.") or "run"
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}-{secrets.token_hex(2)}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path.parent} is not a run: it has no {path.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} can not be read: {error}") from None
    if not isinstance(document, dict):
        raise RunError(f"{path} is not a manifest of a run: it holds no object")
    return document
