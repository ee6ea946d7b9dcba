"""Where a model's weights are stored: which of the files in its folder count, and which of them holds what."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from workbench.config.models import described, has_weights
from workbench.errors import EngineError, short

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

Stored = dict[str, Any]
"""By a weight's name the open file that it is in."""


def stored(folder: Path, stack: ExitStack) -> Stored | None:
    """Gives the weights in a folder, None where it holds a shape alone; the files are open as long as `stack` is.

    One file that holds all comes before an index, and both before whatever else lies there, as in transformers.
    """
    if (folder / WHOLE).exists():
        return _all_of([folder / WHOLE], stack)
    if (folder / INDEX).exists():
        return _indexed(folder, stack)
    files = sorted(folder.glob("*.safetensors"))
    if not files and has_weights(folder):
        raise EngineError(f"{folder} has weights, but none as safetensors, which is all that this engine reads")
    return _all_of(files, stack) if files else None


def _indexed(folder: Path, stack: ExitStack) -> Stored:
    """What lies beside the files of an index, or in them and not in it, is left over from another model."""
    places = described(folder, INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise EngineError(f"{folder / INDEX} does not say which file a weight is in: get the model again")
    files = {file: _opened(folder / file, stack) for file in sorted(set(places.values()))}
    names = {file: set(opened.keys()) for file, opened in files.items()}
    for name, file in places.items():
        if name not in names[file]:
            raise EngineError(f"{folder / file} has no weight {short(name)}, which {INDEX} says: get the model again")
    return {name: files[file] for name, file in places.items()}


def _all_of(files: Iterable[Path], stack: ExitStack) -> Stored:
    found: Stored = {}
    first: dict[str, Path] = {}
    for file in files:
        opened = _opened(file, stack)
        for name in opened.keys():  # noqa: SIM118 - it is no mapping
            if name in first:
                where = f"{first[name].name} and {file.name}"
                raise EngineError(f"{file.parent} has weight {short(name)} twice, in {where}: take one of them out")
            found[name], first[name] = opened, file
    return found


def _opened(file: Path, stack: ExitStack) -> Any:
    try:
        return stack.enter_context(safe_open(file, "pt"))
    except (SafetensorError, OSError) as error:
        raise EngineError(f"the weights in {file} can not be read: {error}; get the model again") from None
