"""Captures and replays a CUDA graph and runs torch.profiler twice, to be recorded all the while."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

import workbench


def step(size: int) -> None:
    """Take device memory, use it, and give it back to the driver."""
    block = torch.ones(size, device="cuda")
    (block @ block).item()
    del block
    torch.cuda.empty_cache()


def replay() -> None:
    """Capture and replay a graph of many nodes."""
    row = torch.ones(16, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(400):
            row = torch.relu(row + 1)
    graph.replay()
    torch.cuda.synchronize()
    assert row[0].item() == 401


if __name__ == "__main__":
    with workbench.phase("graph"):
        replay()
    for number in range(2):
        with (
            workbench.phase(f"profiled {number}"),
            profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as p,
        ):
            step(1 << 20)
        assert any("Memset" in event.name or "fill" in event.name.lower() for event in p.events())
    with workbench.phase("after"):
        step(3 << 24)
