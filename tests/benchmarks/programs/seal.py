"""Seconds and memory to seal the run of a folder that holds its streams: python seal.py FOLDER"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import pyarrow as pa

from workbench.run.sealing import seal

if __name__ == "__main__":
    pa.array([0])  # has pyarrow import what the scribe has imported long before
    start = time.perf_counter()
    seal(Path(sys.argv[1]))
    seconds = time.perf_counter() - start
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seal_s": seconds, "seal_rss": most}))
