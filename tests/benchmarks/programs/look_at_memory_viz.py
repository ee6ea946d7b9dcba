"""How long PyTorch's viewer takes to paint a snapshot, zoom and pan: python look_at_memory_viz.py PAGE FILES CHROMIUM

PAGE is as torch writes it; what it loads from a CDN is in the folder FILES. The clock of the first painting starts when
the page is asked for. A zoom or a pan ends when the page's own part of its frame is done.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from urllib.parse import urlparse

from playwright.sync_api import Route, sync_playwright

from tests.benchmarks.programs.look import GESTURES

PLOT = "svg polygon"
WATCH = """
const afterFrame = (done) => requestAnimationFrame(() => { const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => done(performance.now()); port2.postMessage(0); });
const look = () => document.querySelector("svg polygon")
  ? afterFrame((at) => { window.firstMs = at; }) : requestAnimationFrame(look);
requestAnimationFrame(look);
window.afterFrame = () => new Promise(afterFrame);
addEventListener("error", (event) => { window.failure = event.message; });
"""
ACT = """async (count) => {
  const plot = document.querySelector("svg polygon").closest("svg");
  const box = plot.getBoundingClientRect();
  const ground = plot.querySelector("rect");
  const found = { zoom: [], pan: [] };
  const send = (place, kind, x, y, more) => place.dispatchEvent(
    new (kind === "wheel" ? WheelEvent : MouseEvent)(kind, { clientX: x, clientY: y, view: window, bubbles: true,
      cancelable: true, ...more }));
  const time = async (name, act) => {
    const began = performance.now();
    act();
    found[name].push((await window.afterFrame()) - began);
  };
  for (let i = 0; i < count; i++) {
    const x = box.left + box.width * (0.3 + 0.4 * ((i * 0.37) % 1)), y = box.top + box.height / 2;
    if (i % 3 !== 2) await time("zoom", () => send(ground, "wheel", x, y, { deltaY: i % 12 < 8 ? -120 : 120 }));
    else {
      send(ground, "mousedown", x, y);
      await time("pan", () => send(window, "mousemove", x + (i % 2 ? 160 : -160), y));
      send(window, "mouseup", x, y);
    }
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return found;
}"""


def serve(route: Route, files: Path) -> None:
    """Answer for the CDN."""
    name = urlparse(route.request.url).path
    if (files / Path(name).name).is_file():
        text = (files / Path(name).name).read_text()
    elif "/d3@" in name:
        text = (files / "d3.js").read_text()
    else:  # a part of d3
        text = f'export * from "{re.sub("/d3-[a-z]+@.*", "/d3@all", route.request.url)}";'
    route.fulfill(body=text, content_type="text/javascript", headers={"Access-Control-Allow-Origin": "*"})


def main(page_file: Path, files: Path, chromium: str) -> None:
    """Print what was measured, in ms, and what it says that it drew."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(WATCH)
        page.route(re.compile("^https:"), lambda route: serve(route, files))
        page.goto(page_file.resolve().as_uri(), wait_until="commit", timeout=120_000)
        page.wait_for_function("window.firstMs || window.failure", timeout=120_000)
        if failure := page.evaluate("window.failure"):
            raise SystemExit(f"{page_file} can not be drawn: {failure}")
        found = {"first_ms": page.evaluate("window.firstMs"), "polygons": page.locator(PLOT).count()}
        found["says"] = page.locator("label", has_text="Detail").inner_text()
        page.wait_for_timeout(2000)
        print(json.dumps(found | page.evaluate(ACT, GESTURES)))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
