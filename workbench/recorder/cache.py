"""The user's cache: what is made once and serves every run."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from workbench.errors import WorkbenchError

BETTER = "set XDG_CACHE_HOME to a folder that can be written"


def cache() -> Path:
    """The folder of it, which nobody else can write to; an OSError where there can be none."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "memory-workbench")
    except RuntimeError as error:  # nobody knows where this user is at home
        raise OSError(str(error)) from None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def without(separators: str, folder: Path) -> Path:
    """A path to a folder that has none of these characters, which cut lists of paths: its own, or a link's to it."""
    if not _has(separators, folder):
        return folder
    try:
        link = cache() / f"link-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
        with suppress(FileExistsError):
            link.symlink_to(folder)
    except OSError as error:
        raise WorkbenchError(f"{folder} needs a link that no list of paths cuts: {error}: {BETTER}") from None
    if _has(separators, link):
        raise WorkbenchError(
            f"a list of paths would cut {folder}, and {link} too: {BETTER} and has none of {separators!r}"
        )
    return link


def _has(separators: str, folder: Path) -> bool:
    return any(separator in str(folder) for separator in separators)
