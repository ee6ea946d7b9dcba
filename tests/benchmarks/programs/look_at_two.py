"""How long two runs take to be painted over each other, and what differs to be ranked: look_at_two.py RUN RUN CHROMIUM

The clock starts when the page is asked for; the runs are read and prepared meanwhile, as a notebook does it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import sync_playwright

from tests.ui.served import serving
from workbench.run.run import Run
from workbench.view.comparison_screen import ComparisonScreen
from workbench.view.crossing import Answer

PAINTED = """() => {
  const drawn = JSON.parse(document.querySelector(".wb-comparison")?.dataset.drawn ?? "{}");
  return drawn.samples === 2 && drawn.at;
}"""
RANKED = """() => document.querySelector(".wb-comparison tbody tr") && performance.now()"""


def main(runs: list[Path], chromium: str) -> None:
    """Print what was measured, in ms."""
    screens: list[ComparisonScreen] = []

    def answer(question: dict[str, object]) -> Answer:
        if not screens:
            screens.append(ComparisonScreen([Run.open(run) for run in runs]))
        return screens[0].answer(question)

    with serving(answer) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url + "#" + quote(json.dumps({"compares": True})))
        first = page.wait_for_function(PAINTED, timeout=120_000).json_value()
        ranked = page.wait_for_function(RANKED, timeout=120_000).json_value()
        print(json.dumps({"first_ms": first, "ranked_ms": ranked}))
        browser.close()


if __name__ == "__main__":
    main([Path(one) for one in sys.argv[1:3]], sys.argv[3])
