"""A real JupyterLab over a folder, and what one does in it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from playwright.sync_api import Page, expect

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
"""It asks no other host for anything, and has all cells on the page."""


@contextmanager
def jupyterlab(folder: Path, theme: str = "JupyterLab Light") -> Iterator[str]:
    """The address of a JupyterLab over a folder, with nothing of the user's own."""
    for name, values in (SETTINGS | {"apputils-extension/themes": {"theme": theme}}).items():
        path = folder / ".jupyter" / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    own = {name: str(folder / ".jupyter" / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    options = (
        "--no-browser",
        "--port=0",
        "--allow-root",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env=os.environ | own | {"JUPYTERLAB_SETTINGS_DIR": str(folder / ".jupyter" / "settings")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield urljoin(address(process), "/")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def address(process: subprocess.Popen[str]) -> str:
    """What a JupyterLab says is its address, once it answers there."""
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"http://(?:localhost|127\.0\.0\.1):\d+/\S*", line)
        if found:
            _wait_until_it_listens(found[0])
            return found[0]
    raise AssertionError("JupyterLab ended before it said where it is")


def _wait_until_it_listens(url: str) -> None:
    """It says where it is a little before it is there."""
    place = urlsplit(url)
    for _ in range(100):
        with suppress(OSError), socket.create_connection((place.hostname, place.port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens at {url}")


def open_notebook(page: Page, lab: str, name: str) -> None:
    """Opens a notebook, and waits until its kernel answers."""
    page.goto(f"{lab}lab/tree/{name}?reset")
    page.locator(".jp-Notebook").wait_for(timeout=60_000)
    wait_for_kernel(page)


def wait_for_kernel(page: Page) -> None:
    """Waits until the kernel of the notebook that is open answers."""
    expect(page.locator(".jp-StatusBar-Widget, #jp-main-statusbar").first).to_contain_text("| Idle", timeout=60_000)
    page.wait_for_timeout(1500)  # it says so before the first one has come up


def run_all(page: Page) -> None:
    """Runs all cells, without waiting for them."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
