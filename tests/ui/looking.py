"""What a view on a page says of itself, and what its pixels are."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import FrameLocator, Locator, Page

Place = Page | Locator | FrameLocator
WAITS, WAIT_MS = 400, 50
CONTROLS = "button, input, select, textarea, summary, [tabindex]"
REACH = "{ const e = document.activeElement; if (getComputedStyle(e).outlineStyle !== 'none') reached.push(e); }"
FULFILS = "([text, condition]) => new Function('d', `return ${condition}`)(JSON.parse(text))"


def drawn(place: Place) -> dict[str, Any]:
    """What the view says that it drew last."""
    text = place.locator(".wb-root").first.get_attribute("data-drawn")
    found: dict[str, Any] = json.loads(text or "{}")
    return found


def wait_for(page: Page, condition: str, place: Place | None = None) -> dict[str, Any]:
    """Waits until what was drawn fulfils a condition in JavaScript, such as `d.view === "addresses"`."""
    root = (place or page).locator(".wb-root").first  # looked for each time: one view may take another's place
    for _ in range(WAITS):
        root.wait_for()
        text = root.get_attribute("data-drawn") or "{}"
        if page.evaluate(FULFILS, [text, condition]):
            return drawn(place or page)
        page.wait_for_timeout(WAIT_MS)
    raise AssertionError(f"{condition} is not so of what was drawn: {text}")


def colours(page: Page, selector: str = ".wb-chart canvas") -> dict[str, int]:
    """How many pixels of a canvas have which colour, for those that more than 200 have."""
    found: dict[str, int] = page.evaluate(
        """(selector) => {
          const canvas = document.querySelector(selector);
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const counts = {};
          for (let i = 0; i < data.length; i += 4) {
            if (!data[i + 3]) continue;
            const name = "#" + (data[i] * 65536 + data[i + 1] * 256 + data[i + 2]).toString(16).padStart(6, "0");
            counts[name] = (counts[name] ?? 0) + 1;
          }
          return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 200));
        }""",
        selector,
    )
    return found


def chart(page: Page) -> dict[str, float]:
    """Where the chart is on the page."""
    box = page.locator(".wb-chart").first.bounding_box()
    assert box is not None
    return {"left": box["x"], "top": box["y"], "width": box["width"], "height": box["height"]}


def point(page: Page, time: float) -> float:
    """The x at which a time in ns is drawn: the axis takes 70 pixels on the left and 12 on the right."""
    window, box = drawn(page)["window"], chart(page)
    share = (time - window["start"]) / (window["end"] - window["start"])
    return float(box["left"] + 70 + share * (box["width"] - 82))


def unreached(page: Page) -> list[str]:
    """The controls of the view that Tab does not reach, or reaches without showing it."""
    page.evaluate("[window.reached, window.root] = [[], document.querySelector('.wb-root')]")
    controls = page.locator(".wb-root").first.locator(CONTROLS)
    controls.first.focus()
    page.keyboard.press("Shift+Tab")
    for _ in range(controls.count() + 5):
        page.keyboard.press("Tab")
        page.evaluate(REACH)
    found: list[str] = page.evaluate(
        """(controls) => [...root.querySelectorAll(controls)]
          .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled && !reached.includes(one))
          .map((one) => one.outerHTML)""",
        CONTROLS,
    )
    return found
