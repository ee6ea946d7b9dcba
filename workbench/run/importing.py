"""Other tools' files as runs of a store."""

from __future__ import annotations

from pathlib import Path

from workbench.run.interchange import read_snapshot
from workbench.run.manifest import IMPORTED, Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import Run, write_run
from workbench.run.store import Store


def import_snapshot(path: str | Path, *, name: str | None = None, store: Store | None = None) -> Run:
    """A PyTorch memory snapshot as a run; by default it is called what its file is."""
    path = Path(path)
    imported = read_snapshot(path)
    manifest = Manifest.new(name or path.stem, VERSION, notes=dict(imported.facts))
    manifest.status = IMPORTED
    return write_run((store or Store()).folder / manifest.id, manifest, imported.tables)
