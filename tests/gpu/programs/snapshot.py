"""Dumps a snapshot of torch's allocator, and prints its sums: python snapshot.py PATH python|all [expandable]"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

if "expandable" in sys.argv:
    os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"

import torch

MIB = 1 << 20


def work() -> list[torch.Tensor]:
    """Blocks of several sizes and streams, some freed, and a request that no device can serve."""
    kept = [torch.empty(size * MIB, dtype=torch.uint8, device="cuda") for size in (1, 3, 30)]
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        kept.append(torch.empty(5 * MIB, dtype=torch.uint8, device="cuda"))
    for _ in range(20):
        torch.empty(7000, device="cuda")
    with suppress(torch.OutOfMemoryError):
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
    return kept


def main(path: str, stacks: str) -> None:
    """Record, work, dump."""
    before = torch.empty(9 * MIB, dtype=torch.uint8, device="cuda")
    torch.cuda.memory._record_memory_history(stacks=stacks)
    kept = work()
    torch.cuda.synchronize()
    torch.cuda.memory._dump_snapshot(path)  # type: ignore[no-untyped-call]
    stats = torch.cuda.memory_stats()
    print(json.dumps({"active": stats["active_bytes.all.current"], "reserved": stats["reserved_bytes.all.current"]}))
    del before, kept


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
