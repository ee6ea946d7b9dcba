"""Three recorded runs compared in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.ui.looking import chart, colours, point, unreached, wait_for
from tests.ui.served import serving
from tests.unit.builders import MIB, event, written
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.view.comparison_screen import LINES, ComparisonScreen

NAMES = ("vllm-nccl-lazy", "vllm-gloo", "vllm-nccl-eager")
WIDER = """() => [...document.querySelectorAll(".wb-scroll")]
  .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"""
HEIGHTS_OF = """(colour) => {
  const canvas = document.querySelector(".wb-chart canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const name = (i) => "#" + (data[i] * 65536 + data[i + 1] * 256 + data[i + 2]).toString(16).padStart(6, "0");
  const [top, bottom, heights] = [8, canvas.height - 22, []];
  for (let x = 150; x < canvas.width - 150; x++)
    for (let y = top; y < bottom; y++)
      if (name(4 * (y * canvas.width + x)) === colour) heights.push((bottom - y - 0.5) / (bottom - top));
  return heights;
}"""


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    found = {run.manifest.name: run for run in Store(Path(__file__).parents[2] / "data/runs").runs()}
    return [found[name] for name in NAMES]


@pytest.fixture(scope="module")
def address(runs: list[Run]) -> Iterator[str]:
    with serving(ComparisonScreen(runs).answer) as url:
        yield url + "#" + quote(json.dumps({"compares": True}))


@pytest.fixture
def opened(page: Page, address: str) -> Page:
    page.goto(address)
    wait_for(page, "d.samples === 3")
    return page


def test_runs_lie_over_each_other_to_the_highest_peak(opened: Page, runs: list[Run]) -> None:
    found = wait_for(opened, "d.samples === 3")
    assert found["highest"] == max(run.timeline("gpu").peak.bytes for run in runs)
    assert found["bands"] == list(NAMES)
    assert colours(opened)[LINES[2][0].lower()] > 500


def test_the_pointer_tells_every_run(opened: Page) -> None:
    opened.mouse.move(point(opened, 36e9), chart(opened)["top"] + 200)
    for name in NAMES:
        expect(opened.locator(".wb-tip").first).to_contain_text(name)
    opened.locator(".wb-chart").first.focus()
    opened.keyboard.press("Shift+ArrowRight")
    expect(opened.get_by_role("status").first).to_contain_text(re.compile(r"vllm-gloo \d.*vllm-nccl-eager \d"))


def test_differences_are_ranked_and_lead_into_the_timelines(opened: Page) -> None:
    eager = opened.get_by_role("region", name="differences").nth(1)
    expect(eager.locator("tbody tr").first).to_contain_text("libnccl.so.2")
    expect(eager.locator("tbody tr").first).to_contain_text("+2.65 GiB")
    expect(eager.locator("tbody tr").first).to_contain_text("one run each")
    eager.get_by_role("button", name="libnccl.so.2").click()
    wait_for(opened, "d.only === 'libnccl.so.2' && d.highest < 3e9")
    opened.get_by_role("button", name="owner and phase").click()
    opened.get_by_role("button", name="torch in kv_cache").first.click()
    wait_for(opened, "d.only === 'torch' && d.window.start > 20e9")
    opened.get_by_role("button", name="Whole run").click()
    wait_for(opened, "d.only === null && d.window.start === 0")


def test_side_by_side_shares_window_and_height(opened: Page) -> None:
    opened.get_by_role("button", name="side by side").click()
    charts = opened.locator(".wb-beside .wb-root")
    expect(charts).to_have_count(3)
    charts.nth(1).locator(".wb-chart").hover(position={"x": 700, "y": 150})
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -300)
    opened.keyboard.up("Control")
    wait_for(opened, "d.window.start > 0")
    opened.wait_for_timeout(500)
    heights = [json.loads(charts.nth(n).get_attribute("data-drawn") or "")["top"] for n in range(3)]
    assert heights[0] == heights[1] == heights[2]
    windows = [json.loads(charts.nth(n).get_attribute("data-drawn") or "")["window"] for n in range(3)]
    assert windows[0] == windows[1] == windows[2]
    charts.nth(2).locator(".wb-chart").click(position={"x": 700, "y": 200})
    told = charts.nth(2).get_by_role("region")
    expect(told.first).to_contain_text("libnccl.so.2")
    at = re.search(r"at ([\d.]+ s on its own clock)", told.first.locator("h3").inner_text())
    assert at
    expect(told.last.locator("h3")).to_contain_text(f"in use at {at[1]}")  # not of the shared axis


def test_a_click_tells_the_ledgers_of_all_runs_and_says_so(opened: Page) -> None:
    opened.mouse.click(point(opened, 36e9), chart(opened)["top"] + 200)
    expect(opened.get_by_role("region", name="ledger")).to_have_count(3)
    expect(opened.get_by_role("button", name="side by side")).to_have_attribute("aria-pressed", "true")
    expect(opened.get_by_role("button", name="overlaid")).to_have_attribute("aria-pressed", "false")


def test_tab_reaches_every_control_and_shows_where_it_is(opened: Page) -> None:
    opened.get_by_role("region", name="memory and speed").wait_for()
    assert opened.locator(".wb-chart").first.get_attribute("aria-description")
    assert unreached(opened) == []


def test_what_the_runs_differ_in_is_told(opened: Page) -> None:
    expect(opened.get_by_role("region", name="what the runs differ in")).to_contain_text("vllm_generation.py gloo")
    for width in (1440, 720):
        opened.set_viewport_size({"width": width, "height": 900})
        assert opened.evaluate(WIDER) == [], "a table must be scrolled sideways"
    speeds = opened.get_by_role("region", name="memory and speed")
    expect(speeds).to_contain_text("not recorded")
    expect(speeds.locator("tbody tr").nth(2)).to_contain_text("11.75 GiB")
    expect(opened.locator(".wb-title").first).to_contain_text("recorded on NVIDIA H200, 2026-11-21")


def flat(folder: Path, size: int, config: dict[str, Any]) -> Run:
    """A run that takes so many bytes at its beginning."""
    run = written(folder, events=[event(1, "alloc", size, 1, owner="a"), event(9_999, "alloc", 1, 2 * size, owner="a")])
    run.manifest.config = config
    return run


def test_a_difference_leads_to_its_owner_whatever_the_bands_are_by(opened: Page) -> None:
    opened.get_by_role("button", name="tag", exact=True).first.click()
    opened.get_by_role("button", name="libnccl.so.2").first.click()
    wait_for(opened, "d.only === 'libnccl.so.2' && d.highest < 3e9")
    expect(opened.get_by_role("button", name="owner", exact=True).first).to_have_attribute("aria-pressed", "true")


def test_an_owner_that_has_no_event_is_said_to_be_measured(opened: Page) -> None:
    opened.get_by_role("button", name="pageable").first.click()
    differences = opened.get_by_role("region", name="differences").first
    differences.get_by_role("button", name="heap", exact=True).click()
    expect(opened.locator(".wb-comparison > .wb-note")).to_contain_text("heap: No allocation of it was recorded")
    differences.get_by_role("button", name="libcuda.so.1", exact=True).click()
    expect(opened.locator(".wb-comparison > .wb-note")).to_contain_text("only libcuda.so.1")


def test_repeats_are_one_band_around_their_median(page: Page, tmp_path: Path) -> None:
    sizes = [(10, {"x": 1}), (30, {"x": 1}), (25, {"x": 2})]
    with serving(ComparisonScreen([flat(tmp_path, size * MIB, config) for size, config in sizes]).answer) as url:
        page.goto(url + "#" + quote(json.dumps({"compares": True})))
        found = wait_for(page, "d.samples === 3")
        assert found["bands"] == ["made, x 1", "made, x 2"]
        expect(page.locator(".wb-comparison > .wb-legend")).to_contain_text(
            "2 runs, the band from the least to the most"
        )
        expect(page.get_by_role("region", name="differences").locator("tbody")).to_contain_text("20.00 MiB: noise")
        solid = page.evaluate(HEIGHTS_OF, LINES[0][0].lower())
        assert len(solid) > 500
        assert solid == pytest.approx([20 / 30 / 1.06] * len(solid), abs=0.01)
