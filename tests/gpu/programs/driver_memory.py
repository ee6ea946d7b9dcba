"""Takes memory of every kind that a driver hands out, beside a witness: CUPTI, which tells the same in its own way.

Writes a JSON object to the file it is given: [address, bytes, whether it is a release] of each of CUPTI's records,
`device` and `pinned` apart.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"  # virtual memory, too

import torch
from cupti import cupti

import workbench

ALLOCATION, PINNED, DEVICE = 1, 2, 3
KINDS = {DEVICE: "device", PINNED: "pinned"}
MIB = 1 << 20
seen: list[tuple[int, int, int, bool]] = []


def completed(activities: list[object]) -> None:
    """Keep what CUPTI saw."""
    for one in activities:
        if getattr(one, "kind", None) == cupti.ActivityKind.MEMORY2 and one.memory_kind in (PINNED, DEVICE):  # type: ignore[attr-defined]
            seen.append((one.memory_kind, one.address, one.bytes, one.memory_operation_type != ALLOCATION))  # type: ignore[attr-defined]


def by_hand() -> None:
    """What torch does not ask for: small and large, in a stream's order, locked in place."""
    driver, address, size = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint64(), ctypes.c_size_t
    for count in (4096, 5 * MIB):
        assert driver.cuMemAlloc_v2(ctypes.byref(address), size(count)) == 0
        assert driver.cuMemFree_v2(address) == 0
    assert driver.cuMemAllocAsync(ctypes.byref(address), size(6 * MIB), None) == 0
    assert driver.cuMemFreeAsync(address, None) == 0
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    own = torch.zeros(32 * MIB, dtype=torch.uint8)
    with workbench.phase("before registering"):
        pass
    assert runtime.cudaHostRegister(own.data_ptr(), own.numel(), 0) == 0
    with workbench.phase("registered"):
        pass
    assert runtime.cudaHostUnregister(own.data_ptr()) == 0
    with workbench.phase("unregistered"):
        pass
    torch.cuda.synchronize()


def by_torch() -> None:
    """Blocks in segments that grow, pinned memory, a library that takes a workspace."""
    held = [torch.ones(count * MIB, dtype=torch.uint8, device="cuda") for count in (1, 3, 40, 7)]
    pinned = torch.empty(5 * MIB, dtype=torch.uint8, pin_memory=True)
    held[0].copy_(pinned[:MIB], non_blocking=True)
    product = torch.ones(512, 512, device="cuda") @ torch.ones(512, 512, device="cuda")
    assert product[0, 0].item() == 512
    with workbench.phase("held"):
        torch.cuda.synchronize()
    del held, product
    torch.cuda.empty_cache()
    with workbench.phase("given back"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    cupti.activity_register_callbacks(lambda: (8 * MIB, 0), completed)
    cupti.activity_enable(cupti.ActivityKind.MEMORY2)
    torch.cuda.init()  # type: ignore[no-untyped-call]
    by_torch()
    by_hand()
    cupti.activity_flush_all(1)
    found = {name: [rest for each, *rest in seen if each == kind] for kind, name in KINDS.items()}
    Path(sys.argv[1]).write_text(json.dumps(found))
