"""PyTorch's own viewer of a snapshot, MemoryViz: its page and the files that the page loads, all on this disk.

No wheel of torch has its script: the page that torch writes loads it, and d3, from a CDN. They are fetched before
anything is measured, so that no network is in a measured time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.processes import PYTHON, Document, found, program

ROOT = Path(__file__).parents[2]
SCRIPT = "MemoryViz.js"
PLACE = "WORKBENCH_MEMORY_VIZ"  # a folder that has it: torch/utils/viz of PyTorch's repository
SECONDS = 20
VIEW = (
    "Active Cached Memory Timeline",
    "Active Cached Segment Timeline",
)  # what torch calls it, and what its viewer does


@dataclass(frozen=True)
class MemoryViz:
    """A page for one snapshot, and the folder of what it loads."""

    page: Path
    files: Path

    def look(self, chromium: str) -> Document:
        """How long it takes to be painted, zoomed and panned."""
        line = program("look_at_memory_viz.py", self.page, self.files, chromium)
        return found(line, PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


def memory_viz(snapshot: Path, folder: Path) -> MemoryViz | None:
    """Have the page of a snapshot; where its script can not be had, say so and return None."""
    from torch.cuda import _memory_viz

    files = folder / "memory-viz"
    files.mkdir()
    address = re.search(rf'"(https://.*)/{SCRIPT}"', _memory_viz._memory_viz_template)
    try:
        _fetch(SCRIPT, address[1] if address else "", files)
        _fetch_d3(files)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"views: no MemoryViz beside us, {error}; {PLACE} may name a folder that has {SCRIPT}", file=sys.stderr)
        return None
    page = folder / "memory-viz.html"
    making = [PYTHON, "-m", "torch.cuda._memory_viz", "trace_plot", "--segments", str(snapshot), "--output", str(page)]
    subprocess.run(making, check=True, capture_output=True)
    page.write_text(page.read_text().replace(*VIEW))
    return MemoryViz(page, files)


def _fetch(name: str, address: str, files: Path) -> None:
    """Have a file of the viewer, and those beside it that it imports: from `PLACE`, torch's own folder, or the CDN."""
    import torch

    places = [Path(os.environ[PLACE])] if PLACE in os.environ else [Path(torch.__path__[0]) / "utils" / "viz"]
    near = [place / name for place in places if (place / name).exists()]
    if near or PLACE in os.environ:
        text = (near or [places[0] / name])[0].read_bytes()
    else:
        with urllib.request.urlopen(f"{address}/{name}", timeout=SECONDS) as answer:
            text = answer.read()
    (files / name).write_bytes(text)
    for other in re.findall(r'from\s+"\./(\w+\.js)"', text.decode()):
        if not (files / other).exists():
            _fetch(other, address, files)


def _fetch_d3(files: Path) -> None:
    """Have d3 in one module, of the version that the script asks for."""
    version = re.search(r'"https://\S+/d3@(\d+)', (files / SCRIPT).read_text())
    asked = f"d3@{version[1]}" if version else "d3"
    packing = ["npm", "pack", "--silent", "--pack-destination", str(files), asked]
    packed = subprocess.run(packing, check=True, capture_output=True, text=True, timeout=SECONDS)
    with tarfile.open(files / packed.stdout.split()[-1]) as package:
        script = package.extractfile("package/dist/d3.js")
        assert script is not None
        text = script.read().decode()
    names = sorted(set(re.findall(r"^\s*exports\.(\w+) = ", text, re.MULTILINE)))
    own = ", ".join(f"{name}: d3_{name}" for name in names)  # one is called `window`
    shown = ", ".join(f"d3_{name} as {name}" for name in names)
    (files / "d3.js").write_text(f"{text}\nconst {{ {own} }} = globalThis.d3;\nexport {{ {shown} }};\n")
