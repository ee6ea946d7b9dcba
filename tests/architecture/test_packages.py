"""What is in the folders is what is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {"kernels": "kernels", "notebooks": "notebooks", "recorded": "data/runs", "shapes": "data/models"}
INSTALLED = {".c", ".cpp", ".css", ".cu", ".h", ".html", ".ipynb", ".js", ".json", ".parquet", ".py", ".typed", ".yaml"}


def test_every_source_is_installed(tmp_path: Path) -> None:
    build = ("setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path))
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True, capture_output=True)
    assert files(tmp_path / "workbench") == files(ROOT / "workbench") | {
        Path(package, path) for package, folder in FOLDERS.items() for path in files(ROOT / folder)
    }


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.suffix in INSTALLED}


def test_kernels_are_imported_under_the_workbench_s_name() -> None:
    import workbench.kernels

    assert workbench.kernels.__name__ == "workbench.kernels"
    assert (Path(workbench.kernels.__file__ or "").parent / "_recorder.so").is_file()
