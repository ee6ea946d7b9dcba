"""The notebooks that come with the workbench, and copies of them to work in."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from workbench.errors import UsageError, nearest

FOLDER = Path(str(resources.files("workbench.notebooks")))


def notebook(name: str) -> Path:
    """Gives where a notebook lies: `tour`, `generate`, or of the name of a study."""
    known = {path.stem: path for path in FOLDER.glob("*.ipynb")}
    if name not in known:
        raise UsageError(f"there is no notebook {name!r}: {nearest(name, known)}")
    return known[name]


def copy_to(folder: Path) -> list[Path]:
    """Copies the notebooks into a folder; gives those that were there before and say something else: they stay."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [path for path in map(folder.joinpath, _names()) if not _is_copied(FOLDER / path.name, path)]
    except OSError as error:
        raise UsageError(f"no notebooks can be put into {folder}: {error.strerror or error}") from None


def _names() -> list[str]:
    return sorted(path.name for path in FOLDER.glob("*.ipynb"))


def _is_copied(source: Path, target: Path) -> bool:
    """Whether `target` has the text and code of `source`, from before or from now on."""
    if not target.exists():
        target.write_bytes(source.read_bytes())
    return _cells(target) == _cells(source)


def _cells(path: Path) -> list[str] | None:
    """The texts of a notebook's cells, whatever their outputs; None: it is no notebook."""
    try:
        return ["".join(cell["source"]) for cell in json.loads(path.read_bytes())["cells"]]
    except (ValueError, LookupError, TypeError):
        return None
