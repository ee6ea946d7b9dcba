"""All that is measured on this host, each number beside its anchor: python tests/benchmarks [NAME …] [--quick]"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.rows import Row

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Benchmark:
    """A module beside this one with a function `measure`, and the hosts that it says something of."""

    what: str
    on_cpu: bool = True  # alone, without CUDA
    on_cuda: bool = True

    def is_for(self, has_cuda: bool) -> bool:
        """Whether it is of a host that has CUDA, or has not."""
        return self.on_cuda if has_cuda else self.on_cpu


BENCHMARKS = {
    "overhead": Benchmark("what recording costs a generation by the real small model", on_cuda=False),
    "disk": Benchmark("bytes an event on disk", on_cuda=False),
    "reading": Benchmark("finishing, opening and reading a recording of a million events and of ten", on_cuda=False),
    "starting": Benchmark("how long the command line takes to start", on_cuda=False),
    "views": Benchmark("painting, zooming and panning in a browser", on_cuda=False),
    "hooks": Benchmark("nanoseconds of an allocation"),
    "engines": Benchmark("tokens a second of the engines"),
    "wrapper": Benchmark("what the wrapper takes of vLLM's tokens a second"),
    "memory": Benchmark("peak memory of the engines, by owner"),
    "studies": Benchmark("what a study costs beyond its engines"),
    "gpu_overhead": Benchmark("what recording costs vLLM on a GPU", on_cpu=False),
    "gpu_hooks": Benchmark("nanoseconds of an allocation of GPU memory", on_cpu=False),
    "host_alloc": Benchmark("page-locked memory by every arm", on_cpu=False),
    "streams": Benchmark("what transfers in flight cost who submits them", on_cpu=False),
}


def main() -> int:
    """Run them, keep what each found, print the table."""
    chosen = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # what was found so far is shown
    with _folder(chosen.runs) as folder:
        rows, failed = run(chosen.names, folder, chosen.quick, chosen.out)
    from tests.benchmarks.rows import show

    show(rows)
    if failed:
        print(f"failed, see above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def _folder(runs: Path | None) -> Iterator[Path]:
    """Where benchmarks leave their runs: a folder that was asked for, or one that is removed."""
    if runs:
        runs.mkdir(parents=True)
        yield runs
        return
    with tempfile.TemporaryDirectory(prefix="workbench-benchmarks-") as folder:
        yield Path(folder)


def run(names: list[str], folder: Path, quick: bool, out: Path) -> tuple[list[Row], list[str]]:
    """Gives all rows, and the benchmarks that failed: what the others found is kept as soon as it is there."""
    from tests.benchmarks.keeping import keep

    rows: list[Row] = []
    failed: list[str] = []
    for name in names:
        print(f"{name}: {BENCHMARKS[name].what}", file=sys.stderr, flush=True)
        start, before = time.monotonic(), len(rows)
        try:
            for row in import_module(f"tests.benchmarks.{name}").measure(folder, quick):
                rows.append(row)
        except (Exception, SystemExit):
            traceback.print_exc()
            failed.append(name)
            continue
        found = rows[before:]
        kept = "" if quick else f", kept in {keep({name: found}, out)}"
        print(f"{name}: {time.monotonic() - start:.0f} s{kept}", file=sys.stderr, flush=True)
    return rows, failed


def _arguments() -> argparse.Namespace:
    import torch

    host = "a CUDA host" if torch.cuda.is_available() else "a host without CUDA"
    names = [name for name, one in BENCHMARKS.items() if one.is_for(torch.cuda.is_available())]
    known = "; ".join(f"{name}: {BENCHMARKS[name].what}" for name in names)
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of those for {host}. {known}")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the work, to see that it works; nothing is kept"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks", help="where to keep what is found")
    parser.add_argument(
        "--runs", type=Path, help="a new folder for the runs that it is found in, which else are removed"
    )
    chosen = parser.parse_args()
    if chosen.runs and chosen.runs.exists():
        parser.error(f"{chosen.runs} is there already: name a new folder for the runs")
    if wrong := set(chosen.names) - set(names):
        parser.error(f"for {host} there is no benchmark {', '.join(sorted(wrong))}: there are {', '.join(names)}")
    chosen.names = chosen.names or names
    return chosen


if __name__ == "__main__":
    sys.path[:] = [*sys.path[1:], str(ROOT)]  # less this folder, whose modules have a package; behind what is installed
    sys.exit(main())
