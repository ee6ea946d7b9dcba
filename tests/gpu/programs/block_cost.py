"""Nanoseconds that memory costs the thread that asks for it: python block_cost.py [--history]

Of a pair, an allocation and its free: a block from torch's cache; torch's segment from the driver, past its cache; and
4 KiB of the driver's own. Where it is recorded, each with the recording on and off in turn.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parent))
from switch import Switch  # type: ignore[import-not-found]

WINDOWS = 41


def block() -> None:
    """A block that comes from torch's cache."""
    torch.empty(1024, device="cuda")


def segment() -> None:
    """A block for which torch asks the driver."""
    torch.empty(4 << 20, device="cuda", dtype=torch.uint8)
    torch.cuda.empty_cache()


driver, address, small = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint64(), ctypes.c_size_t(4096)


def raw() -> None:
    """The driver's own, by hand."""
    driver.cuMemAlloc_v2(ctypes.byref(address), small)
    driver.cuMemFree_v2(address)


def pair_ns(pair: Callable[[], None], count: int) -> float:
    """Of one pair, over many."""
    start = time.perf_counter_ns()
    for _ in range(count):
        pair()
    return (time.perf_counter_ns() - start) / count


def compare(switch: Switch | None, pair: Callable[[], None], count: int) -> dict[str, float]:
    """Medians over windows, and of the differences between neighbours."""
    pair_ns(pair, count)
    if switch is None:
        return {"plain": round(median(pair_ns(pair, count) for _ in range(WINDOWS)))}
    on, off = [], []
    for _ in range(WINDOWS):
        switch.set(True)
        on.append(pair_ns(pair, count))
        switch.set(False)
        off.append(pair_ns(pair, count))
    more = median(a - b for a, b in zip(on, off, strict=True))
    return {"on": round(median(on)), "off": round(median(off)), "more": round(more)}


if __name__ == "__main__":
    torch.empty(1, device="cuda")
    if "--history" in sys.argv:
        torch.cuda.memory._record_memory_history(stacks="python", max_entries=200_000)
    switch = Switch.of_this_process()
    pairs = {"block_ns": (block, 5000), "segment_ns": (segment, 50), "raw_ns": (raw, 2000)}
    print(json.dumps({name: compare(switch, pair, count) for name, (pair, count) in pairs.items()}))
