"""The Chromium that is on the PATH."""

from __future__ import annotations

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium is on the PATH; on Debian: apt-get install chromium"


def chromium() -> str | None:
    """Its path, by any of the names that it has."""
    return next((found for found in map(shutil.which, NAMES) if found), None)
