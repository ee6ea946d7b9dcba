"""A generation whose steps are recorded and not, in turn: python steps.py TOKENS

Neighbouring steps see the same machine, so that what the hooks cost shows through its noise. Started by
`workbench record`; prints the median seconds of a step with and without, and what the scribe took of the processor.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from statistics import median

from workbench.config import EngineConfig, Workload
from workbench.engines import engine
from workbench.record.native import library
from workbench.record.probe import NullProbe

WARM_UP = 16  # steps
NOTHING = (1 << 64) - 1


def scribe_seconds(run: str) -> float:
    """Processor seconds that the scribe of this run has taken."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"workbench.record.scribe" in command and os.fsencode(run) in command:
            fields = path.with_name("stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise SystemExit("the scribe is not there: start this with `workbench record`")


def main(tokens: int) -> None:
    """Generate, with the hooks on in every other step."""
    run, threshold = os.environ["WORKBENCH_RUN"], int(os.environ["WORKBENCH_THRESHOLD"])
    record_from = library().wb_record_from
    took: dict[bool, list[float]] = {True: [], False: []}
    running = engine("transformers")()
    running.load(EngineConfig(), NullProbe())
    stream = running.generate(Workload(prompts=("Count the stars.",), max_tokens=tokens, stop_at_end=False))
    begin, cpu = time.perf_counter(), scribe_seconds(run)
    for step in range(tokens):
        recorded = step % 2 == 0
        record_from(threshold if recorded else NOTHING)
        start = time.perf_counter()
        next(stream)
        took[recorded].append(time.perf_counter() - start)
    seconds = time.perf_counter() - begin
    share = (scribe_seconds(run) - cpu) / seconds / (os.cpu_count() or 1)
    record_from(threshold)
    on, off = took[True][WARM_UP:], took[False][WARM_UP:]
    ratios = sorted(a / b for a, b in zip(on, off, strict=True))
    print(
        json.dumps(
            {
                "recorded_s": median(on),
                "plain_s": median(off),
                "ratio": median(ratios),
                "quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
                "steps": len(on),
                "scribe_share": share,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
