"""Everything that is measured on a CPU, each number beside its anchor: python tests/benchmarks [NAME …] [--quick]"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
BENCHMARKS = {
    "overhead": "what recording costs a generation by the real small model",
    "disk": "bytes an event on disk",
    "reading": "finishing, opening and reading a recording of a million events and of ten",
    "starting": "how long the command line takes to start",
    "hooks": "nanoseconds of an allocation",
    "engines": "tokens a second of the engines",
    "memory": "peak memory of the engines, by owner",
    "views": "painting, zooming and panning in a browser",
}


def main() -> None:
    """Run them, print the table, keep it in data/benchmarks."""
    chosen = _arguments()
    from tests.benchmarks import keeping, rows

    found = {}
    with tempfile.TemporaryDirectory(prefix="workbench-benchmarks-") as folder:
        for name in chosen.names or BENCHMARKS:
            print(f"{name}: {BENCHMARKS[name]}", file=sys.stderr, flush=True)
            start = time.monotonic()
            found[name] = import_module(f"tests.benchmarks.{name}").measure(Path(folder), chosen.quick)
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    rows.show([row for measured in found.values() for row in measured])
    if not chosen.quick:
        print(f"kept in {keeping.keep(found, ROOT / 'data/benchmarks').relative_to(ROOT)}", file=sys.stderr)
    _tell_of_cuda()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the work, to see that it works; nothing is kept"
    )
    return parser.parse_args()


def _tell_of_cuda() -> None:
    import torch

    if torch.cuda.is_available() and find_spec("vllm"):
        line = "python tests/benchmarks/cuda.py arms|generation|blocks STORE [MODEL]"
        print(f"this host has a GPU and vLLM, measure them with: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # instead of this folder, whose modules have a package
    main()
