"""One process-group arm of the H200's measurements: python process_group.py context | nccl-lazy | nccl-eager | gloo

World size 1. What a program holds of the device at the end of each phase is what the arms are compared by.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

import workbench

ARMS = ("context", "nccl-lazy", "nccl-eager", "gloo")


def init(arm: str, folder: str) -> None:
    """Join a group of one, as the arm does it. `folder` is private: nobody else can place a store in it."""
    device = torch.device("cuda:0") if arm == "nccl-eager" else None  # with a device, NCCL connects at once
    store = f"file://{Path(folder, 'store')}"
    dist.init_process_group(arm.partition("-")[0], init_method=store, rank=0, world_size=1, device_id=device)


def reduce(arm: str) -> None:
    """The first collective. One process's sum is its own value."""
    ones = torch.ones(1024, device="cpu" if arm == "gloo" else "cuda")
    dist.all_reduce(ones)
    assert ones.sum().item() == 1024


def run(arm: str) -> None:
    """Run one arm, each step in a phase of its own."""
    with workbench.phase("context"):
        torch.ones(1, device="cuda")
        torch.cuda.synchronize()
    if arm == "context":
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with workbench.phase("process_group"):
                init(arm, folder)
            with workbench.phase("all_reduce"):
                reduce(arm)
                torch.cuda.synchronize()
        finally:
            if dist.is_initialized():
                with workbench.phase("teardown"):
                    dist.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1:] not in [[arm] for arm in ARMS]:
        sys.exit(f"usage: process_group.py {' | '.join(ARMS)}")
    run(sys.argv[1])
