"""What is known about a run besides its events: what was run, where, when, with which versions, and how it ended."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import secrets
import stat
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from workbench.errors import RunError
from workbench.run.migrations import migrate

FILE = "manifest.json"
TIME_OF_ID = "%Y%m%d-%H%M%S"  # UTC, so that runs sort by it
LARGEST = 256 << 20  # bytes of a manifest, with all that was asked and answered; more is something else

RECORDING = "recording"  # the scribe holds the run's lock
COMPLETE = "complete"  # ended by itself, whatever its exit code
FAILED = "failed"  # ended by an error, a signal or a lack of memory
INCOMPLETE = "incomplete"  # the recording stopped before the program did
IMPORTED = "imported"
STATUSES = (RECORDING, COMPLETE, FAILED, INCOMPLETE, IMPORTED)


ALIVE = dict[str, dict[str, int]]  # bytes by tier and owner
MEMBERS: dict[str, dict[str, Any]] = {
    "workloads": {"prompts": list[str]},
    "error": {"what": str},
    "shortages": {"what": str, "tier": str, "alive": ALIVE},
    "gpus": {"name": str},
}
"""What objects in these fields must have; `error` may have `alive` too."""


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
    workloads: list[dict[str, Any]] = field(default_factory=list)  # in the order in which they were asked
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

    @property
    def machine(self) -> str:
        """Where and when the run was made, such as `2 NVIDIA H200, 2026-11-27`."""
        counts = Counter(gpu["name"] for gpu in self.gpus)
        names = (name if count == 1 else f"{count} {name}" for name, count in counts.items())
        device = ", ".join(names) or f"{self.host.get('cores')} cores, no GPU"
        return f"{device}, {self.started[:10]}"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of the run in `folder`, brought up to the present schema."""
        document = migrate(_read_json(folder / FILE), folder)
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            manifest = cls(**{key: value for key, value in document.items() if key in known})
            _check(manifest)
        except (TypeError, ValueError) as error:
            raise RunError(f"{folder / FILE} is not a manifest of a run: {error}") from None
        return manifest

    def write(self, folder: Path) -> None:
        """Replace the manifest in `folder`, whole or not at all."""
        target = folder / FILE
        temporary = target.with_suffix(".tmp")
        try:
            with temporary.open("w") as file:
                json.dump(dataclasses.asdict(self), file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)  # where the disk did not take it


def new_id(name: str) -> str:
    """An id that sorts by time and tells the name: 20261121-101500-demo-3fa9."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", name)[:40].strip("-.") or "run"
    return f"{time.strftime(TIME_OF_ID, time.gmtime())}-{safe}-{secrets.token_hex(2)}"


def _check(manifest: Manifest) -> None:
    for name, hint in get_type_hints(Manifest).items():
        value = getattr(manifest, name)
        if not _fits(value, hint):
            raise ValueError(f"its {name} can not be {_shortened(value)}")
    for name, members in MEMBERS.items():
        value = getattr(manifest, name) or []
        for row in value if isinstance(value, list) else [value]:
            if not _fits(row.get("alive", {}), ALIVE) or not all(_fits(row.get(m), t) for m, t in members.items()):
                raise ValueError(f"its {name} can not hold {_shortened(row)}")
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", manifest.id):  # files and folders are named after it
        raise ValueError(f"its id {_shortened(manifest.id)} is not a plain name")
    if manifest.status not in STATUSES:
        raise ValueError(f"its status {_shortened(manifest.status)} is none of {', '.join(STATUSES)}")


def _fits(value: object, hint: Any) -> bool:
    """Whether a value from JSON is of a field's type: the types that fields of the manifest have, and no others."""
    if hint is Any:
        return True
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return any(_fits(value, one) for one in inner)
    if kind is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if kind is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if kind is float:
        return (isinstance(value, float) and math.isfinite(value)) or _fits(value, int)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63
    return isinstance(value, kind)


def _shortened(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            raise RunError(f"{path} is not a manifest of a run: no file, or larger than {LARGEST >> 20} MiB")
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path.parent} is not a run: it has no {path.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} can not be read: {error}") from None
    if not isinstance(document, dict):
        raise RunError(f"{path} is not a manifest of a run: it holds no object")
    return document
