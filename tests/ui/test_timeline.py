"""The timeline in a real browser, over the answers of a real run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.looking import chart, colours, drawn, point, unreached, wait_for
from tests.ui.served import serving
from tests.unit.builders import MIB, event, written
from workbench.run.run import Run
from workbench.units import format_bytes
from workbench.view.colours import colour_of
from workbench.view.screen import Screen

LATE = 34_000_000_000  # ns: after everything is in place
HIGHEST_OF_OVERVIEW = """() => {
  const canvas = document.querySelector(".wb-overview");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const isFilled = (x, y) => data[4 * (y * canvas.width + x) + 3] && data[4 * (y * canvas.width + x)] < 140;
  return Array.from({ length: 40 }, (_, i) => {
    const x = 76 + Math.floor((i * (canvas.width - 94)) / 40);
    for (let y = 4; y < canvas.height; y++) if (isFilled(x, y)) return y;
    return canvas.height;
  });
}"""
LOWEST_OF_CHART = """() => {
  const canvas = document.querySelector(".wb-chart canvas");
  const [left, right] = [Math.ceil(70 * devicePixelRatio) + 1, Math.floor(12 * devicePixelRatio) + 1];
  const row = canvas.height - Math.round(26 * devicePixelRatio);
  const { data } = canvas.getContext("2d").getImageData(left, row, canvas.width - left - right, 1);
  const name = (i) => "#" + (data[i] * 65536 + data[i + 1] * 256 + data[i + 2]).toString(16).padStart(6, "0");
  return Array.from({ length: data.length / 4 }, (_, i) => name(4 * i));
}"""
MARKUP = "<img src=x onerror=document.title='broken'>"


@pytest.fixture(scope="module")
def address(h200: Run) -> Iterator[str]:
    with serving(Screen(h200).answer) as url:
        yield url


@pytest.fixture
def opened(page: Page, address: str) -> Page:
    page.goto(address)
    wait_for(page, "d.samples > 100")
    return page


def test_it_draws_the_run_to_its_peak_in_the_bands_colours(opened: Page, h200: Run) -> None:
    found = drawn(opened)
    assert found["highest"] == h200.timeline("gpu").peak.bytes
    assert found["bands"][:2] == ["torch", "libnccl.so.2"]
    pixels = colours(opened)
    for name in ("torch", "libnccl.so.2", "context"):
        assert pixels[colour_of(name).light.lower()] > 2000


def test_hovering_tells_what_each_band_holds_then(opened: Page, h200: Run) -> None:
    box = chart(opened)
    opened.mouse.move(point(opened, LATE), box["top"] + 250)
    tip = opened.locator(".wb-tip")
    expect(tip).to_be_visible()
    held = h200.ledger("gpu", LATE).by_owner()
    expect(tip).to_contain_text(format_bytes(held["libnccl.so.2"]))
    expect(tip).to_contain_text("context")


def test_a_click_tells_the_ledger_and_the_allocations_of_the_band(opened: Page, h200: Run) -> None:
    box = chart(opened)
    opened.mouse.click(point(opened, LATE), box["top"] + 0.9 * box["height"])
    ledger = opened.get_by_role("region", name="ledger")
    expect(ledger).to_contain_text(format_bytes(h200.ledger("gpu", LATE).used or 0))
    expect(ledger.locator("tbody tr")).to_have_count(len(h200.ledger("gpu", LATE).entries) + 1)
    allocations = opened.get_by_role("region", name="allocations")
    expect(allocations).to_contain_text("torch: in use at 34")
    allocations.locator(".wb-frame button").first.click()
    expect(allocations.locator("li").first).to_contain_text(":")
    allocations.get_by_role("button", name="from").click()
    expect(allocations.locator("th[aria-sort=descending]")).to_contain_text("from")
    ledger.get_by_role("button", name="libnccl.so.2").click()
    expect(opened.get_by_role("region", name="allocations")).to_contain_text("libnccl.so.2: in use at 34")
    expect(opened.get_by_role("region", name="allocations").locator("tbody tr:not(.wb-stack)")).to_have_count(50)
    opened.get_by_role("button", name="next").click()
    expect(opened.locator(".wb-pager")).to_contain_text("51 to 100 of")


def test_wheel_drag_and_buttons_zoom_and_pan(opened: Page) -> None:
    whole = drawn(opened)["window"]
    middle = chart(opened)["top"] + 200
    opened.mouse.move(point(opened, LATE), middle)
    opened.mouse.wheel(0, -300)
    opened.wait_for_timeout(100)
    assert drawn(opened)["window"] == whole  # the page would scroll: the chart was not clicked yet
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -300)
    opened.keyboard.up("Control")
    zoomed = wait_for(opened, "d.window.start > 0")["window"]
    assert zoomed["start"] < LATE < zoomed["end"]
    opened.mouse.down()
    opened.mouse.move(point(opened, LATE) + 150, middle)
    opened.mouse.up()
    panned = wait_for(opened, f"d.window.start < {zoomed['start']}")["window"]
    assert panned["end"] - panned["start"] == pytest.approx(zoomed["end"] - zoomed["start"])
    opened.get_by_role("button", name="show the whole run").click()
    wait_for(opened, "d.window.start === 0")
    opened.keyboard.down("Shift")
    opened.mouse.move(point(opened, 22e9), middle)
    opened.mouse.down()
    opened.mouse.move(point(opened, 24e9), middle)
    opened.mouse.up()
    opened.keyboard.up("Shift")
    chosen = wait_for(opened, "d.window.start > 0")["window"]
    assert chosen["start"] == pytest.approx(22e9, rel=0.01)
    assert chosen["end"] == pytest.approx(24e9, rel=0.01)


def test_zooming_in_brings_what_the_whole_could_not_show(opened: Page, h200: Run) -> None:
    opened.mouse.click(point(opened, 31e9), chart(opened)["top"] + 2 * 20 + 8)  # the phase `capture`
    found = wait_for(opened, "d.window.start > 29e9 && d.samples > 700")
    assert found["window"]["end"] < LATE
    assert (
        found["highest"]
        == h200.timeline("gpu").peak_between(int(found["window"]["start"]), int(found["window"]["end"])).bytes
    )


def test_keys_do_what_the_pointer_does(opened: Page) -> None:
    opened.locator(".wb-chart").focus()
    opened.keyboard.press("]")
    status = opened.get_by_role("status")
    expect(status).to_contain_text("in use")
    first = status.text_content()
    for _ in range(3):
        opened.keyboard.press("Shift+ArrowRight")
    expect(status).not_to_have_text(first or "")
    opened.keyboard.press("w")
    wait_for(opened, "d.window.end - d.window.start < 30e9")
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("region", name="ledger")).to_be_visible()
    opened.keyboard.press("0")
    wait_for(opened, "d.window.start === 0")


def test_tiers_tags_and_names_can_be_chosen(opened: Page, h200: Run) -> None:
    opened.get_by_role("button", name="tag", exact=True).click()
    assert "kv_cache" in wait_for(opened, "d.by === 'tag' && d.samples > 0")["bands"]
    opened.locator(".wb-legend").get_by_role("button", name="weights").click()
    alone = wait_for(opened, "d.highest < 1e9")
    weights = next(band for band in Screen(h200).bands("gpu", "tag").bands if band.name == "weights")
    assert alone["highest"] == weights.peak
    opened.get_by_role("button", name="pageable").click()
    found = wait_for(opened, "d.tier === 'pageable' && d.samples > 0")
    assert found["highest"] == h200.timeline("pageable").peak.bytes


def test_search_outlines_and_lists_what_matches(opened: Page) -> None:
    before = colours(opened).get("#1b1f24", 0)
    opened.get_by_role("searchbox").fill("ncclCommInit")
    expect(opened.get_by_role("region", name="allocations")).to_contain_text("allocations that match")
    opened.get_by_role("searchbox").fill("nccl")
    expect(opened.get_by_role("region", name="allocations")).to_contain_text("libnccl.so.2")
    wait_for(opened, "true")
    opened.wait_for_function("document.querySelector('.wb-note').textContent.includes('outlined line')")
    assert colours(opened)["#1b1f24"] > before + 300


def test_addresses_show_what_is_free_between(opened: Page) -> None:
    opened.get_by_role("button", name="addresses").click()
    found = wait_for(opened, "d.view === 'addresses' && d.boxes > 500")
    opened.mouse.move(point(opened, LATE), chart(opened)["top"] + 70)
    expect(opened.locator(".wb-tip")).to_contain_text("libnccl.so.2 at 34")
    opened.mouse.down()
    opened.mouse.up()
    expect(opened.get_by_role("region", name="allocations")).to_contain_text("libnccl.so.2: in use at 34")
    assert found["boxes"] < 20_000
    assert colours(opened)[colour_of("torch").light.lower()] > 10_000


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 640])
def test_nothing_is_wider_than_the_page(browser: Browser, address: str, theme: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    page.goto(address)
    wait_for(page, "d.samples > 100")
    page.mouse.click(point(page, LATE), chart(page)["top"] + 200)
    page.get_by_role("region", name="ledger").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.querySelector('.wb-root')).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if theme == "light" else "rgb(21, 24, 28)")
    shade = colour_of("torch").light if theme == "light" else colour_of("torch").dark
    assert colours(page)[shade.lower()] > 2000
    page.close()


def test_the_overview_fits_any_width(opened: Page) -> None:
    opened.set_viewport_size({"width": 700, "height": 900})
    opened.wait_for_function("document.querySelector('.wb-overview').width === 700 - 28")
    opened.wait_for_timeout(100)
    highest = opened.evaluate(HIGHEST_OF_OVERVIEW)
    assert highest[5] > 25, "the run begins low"
    assert all(y < 6 for y in highest[-6:-1]), "and ends at the top"


def test_columns_leave_no_seams_on_a_screen_of_fractions(browser: Browser, address: str, h200: Run) -> None:
    page = browser.new_page(viewport={"width": 1201, "height": 900}, device_scale_factor=1.6)
    page.goto(address)
    wait_for(page, "d.samples > 100")
    lowest = page.evaluate(LOWEST_OF_CHART)
    pure = {colour_of(band.name).light.lower() for band in Screen(h200).bands("gpu", "owner").bands}
    mixed = [colour for colour in lowest if colour not in pure]
    assert len(lowest) > 1700
    assert len(mixed) <= 2  # where a band has just begun, and is not as high as a pixel
    page.close()


def test_every_control_has_a_name(opened: Page) -> None:
    nameless = opened.evaluate(
        """() => [...document.querySelectorAll("button, input, [tabindex]")]
          .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim())).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_tab_reaches_every_control_and_shows_where_it_is(opened: Page) -> None:
    opened.locator(".wb-chart").press("Enter")
    expect(opened.get_by_role("status")).to_contain_text("is below")
    opened.get_by_role("region", name="ledger").get_by_role("button").first.press("Enter")
    opened.get_by_role("region", name="allocations").locator("tbody tr").first.wait_for()
    assert unreached(opened) == []


def test_names_are_never_markup(page: Page, tmp_path: Path) -> None:
    rows = [event(5, "alloc", 7 * MIB, 0x1000, owner=MARKUP, tag=MARKUP, stack=1), event(100, "alloc", 1, 0x2)]
    phases = [{"name": MARKUP, "start_ns": 0, "end_ns": 90, "process": 1, "depth": 0}]
    stacks = [{"stack": 1, "frames": [f"/x.py:1 {MARKUP}"]}]
    run = written(tmp_path, name=MARKUP, events=rows, phases=phases, stacks=stacks)
    with serving(Screen(run).answer) as url:
        page.goto(url)
        wait_for(page, "d.samples > 0")
        page.mouse.click(point(page, 40), chart(page)["top"] + 250)
        page.get_by_role("region", name="allocations").locator(".wb-frame button").click()
        expect(page.get_by_role("region", name="allocations").locator("li")).to_contain_text(MARKUP)
        page.mouse.move(point(page, 40), chart(page)["top"] + 5)
        expect(page.locator(".wb-tip")).to_contain_text(MARKUP)
        assert page.locator(".wb-root img").count() == 0
        assert page.title() == "view"
