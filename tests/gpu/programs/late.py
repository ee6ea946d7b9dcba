"""Begins to record, into the folder it is given, when CUDA is in use already."""

from __future__ import annotations

import sys

import torch

import workbench
from workbench.run.store import Store

MIB = 1 << 20

if __name__ == "__main__":
    early = torch.ones(100 * MIB, dtype=torch.uint8, device="cuda")
    torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
    with workbench.recording("late", store=Store(sys.argv[1])) as rec:
        with rec.phase("taken"), rec.tag("mine"):
            late = torch.ones(300 * MIB, dtype=torch.uint8, device="cuda")
            pinned = torch.empty(30 * MIB, dtype=torch.uint8, pin_memory=True)
        del late
        torch.cuda.empty_cache()
        with rec.phase("given back"):
            torch.cuda.synchronize()
    del early, pinned
