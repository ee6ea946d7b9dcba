"""How long a run takes to be painted, zoomed and panned in Chromium: python look.py RUN CHROMIUM

The clock of the first painting starts when the page is asked for; the run is read and prepared meanwhile, as a
notebook does it. A zoom or a pan ends when the picture is drawn from the answer that was made for its window.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.ui.served import serving
from workbench.run.run import Run
from workbench.view.crossing import Answer
from workbench.view.screen import Screen

GESTURES = 60
ACT = """async (count) => {
  const root = document.querySelector(".wb-root");
  const chart = root.querySelector(".wb-chart");
  const box = chart.getBoundingClientRect();
  const drawn = (test) => new Promise((resolve) => {
    const hear = (event) => { if (test(event.detail)) { root.removeEventListener("wb-drawn", hear); resolve(); } };
    root.addEventListener("wb-drawn", hear);
  });
  const found = { zoom: [], pan: [], frame: [] };
  for (let i = 0; i < count; i++) {
    const isZoom = i % 3 !== 2;
    const turn = isZoom ? { deltaY: i % 12 < 8 ? -120 : 120, ctrlKey: true } : { deltaX: i % 2 ? 160 : -160 };
    const at = { clientX: box.left + box.width * (0.3 + 0.4 * ((i * 0.37) % 1)), clientY: box.top + 200 };
    const began = performance.now();
    const frame = drawn(() => true).then(() => found.frame.push(performance.now() - began));
    const fresh = drawn((detail) => detail.isFresh);
    chart.dispatchEvent(new WheelEvent("wheel", { ...turn, ...at, bubbles: true, cancelable: true }));
    await Promise.all([frame, fresh]);
    found[isZoom ? "zoom" : "pan"].push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return found;
}"""


def look(page: Page, url: str) -> dict[str, object]:
    """Open the page, then zoom and pan."""
    page.goto(url)
    page.wait_for_selector('.wb-root[data-drawn*="shown"]', timeout=120_000)
    first = page.evaluate("JSON.parse(document.querySelector('.wb-root').dataset.drawn).at")
    page.wait_for_timeout(300)
    return {"first_ms": first, **page.evaluate(ACT, GESTURES)}


def main(run: Path, chromium: str) -> None:
    """Print what was measured, in ms."""
    screens: list[Screen] = []

    def answer(question: dict[str, object]) -> Answer:
        if not screens:
            screens.append(Screen(Run.open(run)))
        return screens[0].answer(question)

    with serving(answer) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        print(json.dumps(look(browser.new_page(viewport={"width": 1280, "height": 900}), url)))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
