"""Seconds and memory to open a run that this process has not read, and to find its peak: python read.py FOLDER"""

from __future__ import annotations

import json
import resource
import sys
import time

from workbench.run.run import Run

if __name__ == "__main__":
    start = time.perf_counter()
    run = Run.open(sys.argv[1])
    run.table("events")
    opened = time.perf_counter()
    peak = run.timeline("pageable").peak
    ended = time.perf_counter()
    if not peak.bytes:
        raise SystemExit("the run has no events")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"open_s": opened - start, "peak_s": ended - opened, "read_rss": most}))
