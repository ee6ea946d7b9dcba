"""How long a run's HTML file takes to be painted, with the network off: python open_page.py PAGE CHROMIUM"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

if __name__ == "__main__":
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=sys.argv[2], args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.context.set_offline(True)
        page.goto(Path(sys.argv[1]).resolve().as_uri())
        page.wait_for_selector('.wb-root[data-drawn*="shown"]')
        print(
            json.dumps({"first_ms": page.evaluate("JSON.parse(document.querySelector('.wb-root').dataset.drawn).at")})
        )
        browser.close()
