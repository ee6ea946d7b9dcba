"""Whether a model's folder that was made here is still whole: disks fill up, copies end halfway, files are lost."""

from __future__ import annotations

import json
from pathlib import Path

PROOF = "whole.json"  # written last: how many bytes each file has


def prove(folder: Path) -> None:
    """Notes that a folder is whole as it is."""
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    (folder / PROOF).write_text(json.dumps(sizes, indent=1))


def is_whole(folder: Path) -> bool:
    """Gives whether a folder is there, and as it was when it was proved."""
    try:
        if not (folder / PROOF).exists():
            return _holds_a_model(folder)
        sizes = json.loads((folder / PROOF).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _holds_a_model(folder: Path) -> bool:
    """What a version that proved nothing has made is taken if all of it can be read."""
    from safetensors import SafetensorError, safe_open

    for file in folder.glob("*.json"):
        json.loads(file.read_bytes())
    try:
        with safe_open(folder / "model.safetensors", "np"):
            return all((folder / name).exists() for name in ("config.json", "tokenizer.json"))
    except SafetensorError:
        return False
