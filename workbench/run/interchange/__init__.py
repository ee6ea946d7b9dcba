"""Runs from other tools' files, and files for other tools from runs."""

from workbench.run.interchange.files import Imported
from workbench.run.interchange.perfetto import export_perfetto
from workbench.run.interchange.tables import export_csv, export_parquet
from workbench.run.interchange.torch_export import export_snapshot
from workbench.run.interchange.torch_snapshot import read_snapshot

__all__ = ["Imported", "export_csv", "export_parquet", "export_perfetto", "export_snapshot", "read_snapshot"]
