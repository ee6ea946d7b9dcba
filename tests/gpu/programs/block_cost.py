"""Nanoseconds of a torch block's allocation and free: python block_cost.py [--history]

Blocks come from torch's cache, so this is the cost on the thread that allocates, without the driver's.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median

import torch

PAIRS = 20_000


def pair_ns() -> float:
    """Of one allocation and its free."""
    start = time.perf_counter_ns()
    for _ in range(PAIRS):
        torch.empty(1024, device="cuda")
    return (time.perf_counter_ns() - start) / PAIRS


def driver_pair_us() -> float:
    """Of a cudaMalloc and its cudaFree, by torch past its cache."""
    start = time.perf_counter_ns()
    for _ in range(200):
        torch.empty(4 << 20, device="cuda", dtype=torch.uint8)
        torch.cuda.empty_cache()
    return (time.perf_counter_ns() - start) / 200 / 1000


if __name__ == "__main__":
    torch.empty(1, device="cuda")
    if "--history" in sys.argv:
        torch.cuda.memory._record_memory_history(stacks="python", max_entries=10 * PAIRS)
    pair_ns()
    found: dict[str, float] = {"pair_ns": round(median(pair_ns() for _ in range(7)))}
    if "--history" not in sys.argv:
        found["driver_pair_us"] = round(median(driver_pair_us() for _ in range(7)), 2)
    print(json.dumps(found))
