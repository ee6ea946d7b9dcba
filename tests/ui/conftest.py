"""A headless Chromium, and runs to show in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.ui.chromium import MISSING, chromium
from workbench.run.run import Run
from workbench.run.store import Store


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium that is on the PATH."""
    path = chromium()
    if path is None:
        pytest.fail(MISSING)
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
