"""A real JupyterLab: the widget live, and what is left of it in a saved notebook."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.lab import jupyterlab, open_notebook, run_all
from tests.ui.looking import colours, wait_for
from workbench.run.run import Run
from workbench.view.colours import colour_of

TORCH = colour_of("torch").light.lower()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, h200: Run) -> Path:
    """A folder with a small notebook that shows a run."""
    made = tmp_path_factory.mktemp("lab")
    source = f"import workbench\nworkbench.Store({str(h200.folder.parent)!r}).open({h200.id!r})"
    cell: dict[str, object] = {
        "cell_type": "code",
        "id": "show",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (made / "small.ipynb").write_text(json.dumps(notebook))
    return made


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[str]:
    with jupyterlab(folder) as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on a dark desktop, in a light JupyterLab, which complains itself of what it does not find."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert errors == []


def test_a_run_is_a_live_widget_in_jupyterlab(page: Page, lab: str, folder: Path) -> None:
    open_notebook(page, lab, "small.ipynb")
    run_all(page)
    page.locator(".wb-root").wait_for(timeout=60_000)
    found = wait_for(page, "d.samples > 100")
    assert found["bands"][0] == "torch"
    assert colours(page)[TORCH] > 1000
    expect(page.locator("[data-workbench-static]")).to_be_hidden()
    page.locator(".wb-legend button").first.press("b")  # with which JupyterLab makes a cell
    page.locator(".wb-chart").press("x")  # and cuts one
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(1)
    page.locator(".wb-root").get_by_role("button", name="pageable").click()
    wait_for(page, "d.tier === 'pageable' && d.samples > 100")
    page.keyboard.press("Control+s")
    _wait_until_saved(folder / "small.ipynb")
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name="Shut Down Kernel", exact=True).click()
    page.goto("about:blank")
    open_notebook(page, lab, "small.ipynb")  # as one that was saved and sent
    saved = page.frame_locator("[data-workbench-static] iframe")
    wait_for(page, "d.samples > 100", saved)
    expect(saved.locator(".wb-root")).to_have_attribute("data-theme", "light")
    expect(page.get_by_text("Error displaying widget: model not found")).to_be_attached()
    expect(page.get_by_text("Error displaying widget: model not found")).to_be_hidden()


def _wait_until_saved(path: Path) -> None:
    for _ in range(100):
        if json.loads(path.read_text())["cells"][0].get("outputs"):
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} was not saved with its outputs")


def test_a_saved_notebook_shows_its_picture_without_a_kernel(page: Page, folder: Path, tmp_path: Path) -> None:
    executed = tmp_path / "executed.ipynb"
    run = ["-m", "nbconvert", "--log-level=ERROR"]
    command = [*run, "--execute", "--to", "notebook", str(folder / "small.ipynb"), "--output", str(executed)]
    subprocess.run([sys.executable, *command], check=True, timeout=120)
    outputs = json.loads(executed.read_text())["cells"][0]["outputs"]
    assert outputs[0]["data"]["text/plain"] in ("", [])  # and not which object the widget was
    assert {"image/svg+xml", "text/html", "text/plain"} <= set(outputs[-1]["data"])
    subprocess.run([sys.executable, *run, "--to", "html", str(executed)], check=True, timeout=120)
    page.context.set_offline(True)
    page.goto(executed.with_suffix(".html").as_uri())
    found = wait_for(page, "d.samples > 100", page.frame_locator("[data-workbench-static] iframe"))
    assert found["bands"][0] == "torch"
