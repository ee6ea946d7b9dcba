"""A run as one HTML file, opened from the disk with no network."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, expect

from tests.ui.looking import chart, colours, point, wait_for
from workbench.compare.comparison import Comparison
from workbench.report.page import html_page
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.view.colours import colour_of
from workbench.view.widget import ComparisonView, TimelineView


@pytest.fixture
def opened(page: Page, h200: Run, tmp_path: Path) -> Page:
    page.context.set_offline(True)
    page.goto(h200.to_html(tmp_path / "run.html").as_uri())
    return page


def test_it_is_painted_within_a_second(opened: Page, h200: Run) -> None:
    found = wait_for(opened, "d.samples > 100")
    assert found["highest"] == h200.timeline("gpu").peak.bytes
    assert found["at"] < 1000  # ms since the page began to load
    assert colours(opened)[colour_of("torch").light.lower()] > 2000


def test_it_can_be_looked_around_in(opened: Page, h200: Run) -> None:
    wait_for(opened, "d.samples > 100")
    opened.mouse.click(point(opened, 31e9), chart(opened)["top"] + 48)
    wait_for(opened, "d.window.start > 29e9 && d.samples > 700")
    opened.mouse.click(point(opened, 33.5e9), chart(opened)["top"] + 300)
    expect(opened.get_by_role("region", name="ledger")).to_contain_text("handed out")
    allocations = opened.get_by_role("region", name="allocations")
    expect(allocations).to_contain_text("which this page holds")
    allocations.locator(".wb-frame button").first.click()
    expect(allocations.locator("li").first).to_contain_text(".py:")
    opened.get_by_role("searchbox").fill("nccl")
    expect(opened.get_by_role("region", name="allocations")).to_contain_text("libnccl.so.2")
    opened.get_by_role("button", name="addresses").click()
    wait_for(opened, "d.view === 'addresses' && d.boxes > 500")
    opened.get_by_role("button", name="pageable").click()
    opened.get_by_role("button", name="bytes").click()
    assert wait_for(opened, "d.tier === 'pageable' && d.samples > 100")["highest"] > 0


def test_a_dark_page_is_dark_to_its_edges(opened: Page) -> None:
    opened.emulate_media(color_scheme="dark")
    expect(opened.locator(".wb-root")).to_have_attribute("data-theme", "dark")
    for what in ("html", ".wb-root"):
        expect(opened.locator(what)).to_have_css("background-color", "rgb(21, 24, 28)")


def test_the_tip_and_the_ledger_tell_the_same(opened: Page) -> None:
    wait_for(opened, "d.samples > 2000")  # all that the page holds: it comes after the first paint
    opened.mouse.move(point(opened, 31.7e9), chart(opened)["top"] + 300)
    tip = opened.locator(".wb-tip")
    held = tip.locator("tr", has_text="torch unused").locator("td").last.inner_text()
    opened.mouse.down()
    opened.mouse.up()
    ledger = opened.get_by_role("region", name="ledger")
    expect(ledger.locator("tr", has_text="torch unused")).to_contain_text(held)
    expect(ledger.locator(".wb-striped")).to_have_count(1)
    expect(ledger.locator("th")).to_have_text(["owner", "bytes", "share", ""])


def test_compared_runs_can_be_looked_around_in(page: Page, h200: Run, tmp_path: Path) -> None:
    gloo = next(run for run in Store.recorded().runs() if run.manifest.name == "vllm-gloo")
    page.context.set_offline(True)
    page.goto(Comparison([gloo, h200]).to_html(tmp_path / "compared.html").as_uri())
    found = wait_for(page, "d.samples === 2")
    assert found["highest"] == h200.timeline("gpu").peak.bytes
    assert found["at"] < 1000
    expect(page.locator(".wb-title").first).to_contain_text("recorded on NVIDIA H200, 2026-11-21")
    differences = page.get_by_role("region", name="differences")
    expect(differences.locator("tbody tr").first).to_contain_text("+2.65 GiB")
    page.get_by_role("button", name="owner and phase").click()
    differences.get_by_role("button", name="libnccl.so.2 in process_group").click()
    wait_for(page, "d.only === 'libnccl.so.2' && d.highest === 388 << 20")
    page.get_by_role("button", name="side by side").click()
    page.locator(".wb-beside .wb-chart").nth(1).click(position={"x": 1232, "y": 200})
    expect(page.get_by_role("region", name="ledger")).to_contain_text("libnccl.so.2")
    page.get_by_role("button", name="pageable").first.click()
    wait_for(page, "d.tier === 'pageable' && d.samples > 100", page.locator(".wb-beside"))


@pytest.mark.parametrize(("compares", "drawn"), [(False, "d.samples > 100"), (True, "d.samples === 2")])
def test_what_a_saved_notebook_shows_can_be_zoomed(
    page: Page, h200: Run, tmp_path: Path, compares: bool, drawn: str
) -> None:
    view = ComparisonView([h200, h200]) if compares else TimelineView(h200)
    target = tmp_path / "saved.html"
    target.write_text(f'<!doctype html><meta charset="utf-8">{view.still()["text/html"]}')
    page.goto(target.as_uri())
    frame = page.frame_locator("iframe")
    wait_for(page, drawn, frame)
    expect(page.locator("img")).to_be_hidden()
    shown = frame.locator(".wb-root").first.bounding_box()
    framed = page.locator("iframe").bounding_box()
    assert shown
    assert framed
    assert framed["height"] >= shown["height"]  # so that there is nothing to scroll in it
    assert target.stat().st_size < 700_000


def test_the_page_of_a_report_is_drawn_without_a_network(page: Page, h200: Run, tmp_path: Path) -> None:
    output = nbformat.v4.new_output("display_data", TimelineView(h200).still())
    executed = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("run", outputs=[output])])
    target = tmp_path / "report.html"
    target.write_text(html_page(executed, "a report"))
    page.context.set_offline(True)
    page.goto(target.as_uri())
    assert wait_for(page, "d.samples > 100", page.frame_locator("iframe"))["bands"][0] == "torch"
