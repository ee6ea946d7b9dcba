"""Copies to the device and back on two streams of their own, to be recorded."""

from __future__ import annotations

import torch

import workbench

MIB = 1 << 20

if __name__ == "__main__":
    torch.ones(1, device="cuda")
    there = torch.ones(32 * MIB, dtype=torch.uint8).pin_memory()
    back = torch.empty(32 * MIB, dtype=torch.uint8).pin_memory()
    loads, stores = torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with workbench.phase("copies"):
        for _ in range(3):
            with torch.cuda.stream(loads):
                on_device = there.to("cuda", non_blocking=True)
            stores.wait_stream(loads)
            with torch.cuda.stream(stores):
                back.copy_(on_device, non_blocking=True)
            torch.cuda.synchronize()
    assert torch.equal(there, back)
