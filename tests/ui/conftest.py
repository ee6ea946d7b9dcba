"""A headless Chromium, and runs to show in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from workbench.run.run import Run
from workbench.run.store import Store

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium that is on the PATH."""
    path = next((found for found in map(shutil.which, NAMES) if found), None)
    if path is None:
        pytest.fail("no Chromium is on the PATH; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a laptop's width that must not complain, and reaches nothing but this machine."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.route("**/*", lambda route: route.continue_() if is_here(route.request.url) else route.abort())
    yield opened
    opened.close()
    assert complaints == []


def is_here(url: str) -> bool:
    return url.startswith(
        ("http://127.0.0.1:", "http://localhost:", "ws://localhost:", "file:", "data:", "blob:", "about:")
    )


@pytest.fixture(scope="session")
def h200() -> Run:
    """vLLM with an eagerly connected group of one, as recorded on an H200."""
    [run] = [
        run for run in Store(Path(__file__).parents[2] / "data/runs").runs() if run.manifest.name == "vllm-nccl-eager"
    ]
    return run
