"""Hand-built events, so that a test can say what the sums must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from workbench.run import schema
from workbench.run.manifest import COMPLETE, Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run, write_run
from workbench.run.store import Store
from workbench.run.streams import Names, Stream, coded

MIB = 1 << 20


def event(time_ns: int, kind: str, size: int, address: int, **known: Any) -> dict[str, Any]:
    """One event; what is not given is that of a host allocation by libdemo.so in process 1."""
    row: dict[str, Any] = {
        "time_ns": time_ns,
        "kind": kind,
        "layer": "host",
        "tier": "pageable",
        "owner": "libdemo.so",
        "tag": None,
        "bytes": size,
        "asked": size,
        "address": address,
        "device": -1,
        "stream": 0,
        "process": 1,
        "thread": 1,
        "stack": 0,
    }
    return row | known


def gpu(time_ns: int, kind: str, size: int, address: int, **known: Any) -> dict[str, Any]:
    """One event of device memory, by torch from the driver."""
    default = {"layer": "driver", "tier": "gpu", "owner": "libc10_cuda.so", "device": 0}
    return event(time_ns, kind, size, address, **default | known)


def block(time_ns: int, kind: str, size: int, address: int, **known: Any) -> dict[str, Any]:
    """One block that torch cut from device memory."""
    return gpu(time_ns, kind, size, address, **{"layer": "allocator", "owner": "torch"} | known)


def total(time_ns: int, tier: str, name: str, size: int, **known: Any) -> dict[str, Any]:
    """One reading of the truth."""
    row = {"time_ns": time_ns, "process": 1, "tier": tier, "device": -1, "name": name, "bytes": size}
    return row | {"owner": None, "tag": None} | known


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table of a run."""
    return pa.Table.from_pylist(rows, schema=schema.TABLES[name])


def written(folder: Path, name: str = "made", **tables: list[dict[str, Any]]) -> Run:
    """A finished run of these tables."""
    manifest = Manifest.new(name, VERSION)
    manifest.status = COMPLETE
    return write_run(folder / manifest.id, manifest, {key: table(key, rows) for key, rows in tables.items()})


def unsealed(folder: Path, rows: int, cut: int = 0) -> Path:
    """A run whose scribe is gone: streams that were never sealed, cut off inside the last batch."""
    manifest = Manifest.new("cut", VERSION)
    path = Store(folder).create(manifest)
    names = Names(path)
    names.id("")
    ids = {word: names.id(word) for word in ("alloc", "host", "pageable", "libdemo.so")}
    stream = Stream(path / "events.arrow", coded(schema.EVENTS))
    for number in range(rows):
        row = event(number, "alloc", 8, number + 1) | {"kind": ids["alloc"], "layer": ids["host"]}
        row |= {"tier": ids["pageable"], "owner": ids["libdemo.so"]}
        names.flush()
        stream.write_rows([row])
    if cut:
        whole = (path / "events.arrow").read_bytes()
        (path / "events.arrow").write_bytes(whole[:-cut])
    return path
