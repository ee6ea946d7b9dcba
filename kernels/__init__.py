"""Native and Triton sources, each with a plain torch or Python twin that tests hold it to."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import WorkbenchError


def library_path() -> Path:
    """Gives the file of the native recorder, for LD_PRELOAD and for ctypes."""
    folder = Path(__file__).resolve().parent
    built = sorted(folder.glob("_recorder*.so"))
    if not built:
        raise WorkbenchError(f"the native recorder is not in {folder}: install the package with gcc at hand")
    return built[0]
