"""Seconds that PyTorch's own form takes for the same: python load.py SNAPSHOT"""

from __future__ import annotations

import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any

CHANGE = {"segment_alloc": 1, "segment_free": -1}


def peak(snapshot: dict[str, Any]) -> int:
    """The most bytes in use in segments, over the entries of every trace."""
    most = used = 0
    for trace in snapshot["device_traces"]:
        for entry in trace:
            used += CHANGE.get(entry["action"], 0) * entry["size"]
            most = max(most, used)
    return most


def main(path: Path) -> None:
    """Load it, as PyTorch's own tools do; find the peak; dump it again."""
    start = time.perf_counter()
    with path.open("rb") as file:
        snapshot = pickle.load(file)
    loaded = time.perf_counter()
    if not peak(snapshot):
        raise SystemExit("the snapshot has no entries")
    looped = time.perf_counter()
    with path.with_suffix(".again").open("wb") as file:
        pickle.dump(snapshot, file)
    print(json.dumps({"open_s": loaded - start, "peak_s": looped - loaded, "seal_s": time.perf_counter() - looped}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
