"""A program that has host memory by one arm: how long it takes, and how fast copies from and to it are.

`python -m workbench.studies.pinned_program ARM BYTES …`; what it finds is kept in the run that records it.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError, WorkbenchError
from workbench.mechanisms.host_alloc import HostMemory, PinnedPoolExact, allocate
from workbench.mechanisms.host_evidence import FREED, NOTE, PHASE
from workbench.recorder.recorder import current
from workbench.units import parse_bytes

if TYPE_CHECKING:
    import torch

WARM_UP = 1 << 20  # bytes
COPIES = (5, 50)  # least and most
MOST_COPIED = 1 << 30  # bytes; more tells nothing more
TIMES = 20  # at most that a size is had and given back: what is small takes no longer than what comes between
MOST_HAD = 64 << 20  # bytes, of all these times


def main(arm: str, sizes: list[int]) -> None:
    """Have and give back each size in turn."""
    import torch

    allocate(arm, WARM_UP).free()  # what an arm needs loaded is not measured, nor what CUDA needs at first
    if torch.cuda.is_available():
        torch.empty(1, device="cuda")
        torch._C._host_emptyCache()  # torch's pool begins with nothing, as the others do
    current().facts(NOTE, {"arm": arm, "asked": sizes})
    current().facts("measured", {"rows": [_measured(arm, size) for size in sizes]})


def _measured(arm: str, size: int) -> dict[str, Any]:
    import torch

    times = [_had(arm, size) for _ in range(min(TIMES, MOST_HAD // max(size, 1)) - 1)]
    with current().phase(PHASE), current().tag("staging"):
        start = time.perf_counter()
        memory = allocate(arm, size)
        allocated = time.perf_counter() - start
    row: dict[str, Any] = {"asked": memory.asked, "predicted": memory.taken}
    if torch.cuda.is_available() and size:
        with current().phase("copy"):
            row |= _bandwidth(memory.tensor[:MOST_COPIED])
    with current().phase(FREED):
        times.append((allocated, _freed(arm, memory)))
    row["allocate_s"], row["free_s"] = (median(each) for each in zip(*times, strict=True))
    return row


def _had(arm: str, size: int) -> tuple[float, float]:
    """How long it takes to have memory, and to give it back; torch's pool keeps none of it."""
    import torch

    start = time.perf_counter()
    memory = allocate(arm, size)
    had = time.perf_counter() - start
    freed = _freed(arm, memory)
    if torch.cuda.is_available():
        torch._C._host_emptyCache()
    return had, freed


def _freed(arm: str, memory: HostMemory) -> float:
    """How long it takes to give memory back: until who keeps it has it, and where nobody does, until it is gone."""
    import torch

    start = time.perf_counter()
    memory.free()
    if arm == PinnedPoolExact.name:  # which lets go of what was copied when it is asked next
        torch.cuda.synchronize()
        torch._C._host_emptyCache()
    return time.perf_counter() - start


def _bandwidth(host: torch.Tensor) -> dict[str, float]:
    """Bytes a second each way, the median of some copies; the first one of each way is not counted."""
    import torch

    least, most = COPIES
    copies = max(least, min(most, MOST_COPIED // len(host)))
    found = {}
    for name, way in ways(host, torch.empty_like(host, device="cuda")).items():
        times = [seconds_of_copy(*way) for _ in range(copies + 1)][1:]
        found[name] = len(host) / median(times)
    return found


def ways(host: torch.Tensor, device: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Gives source and target of each way, by the name of its number."""
    return {"to_device_per_s": (host, device), "to_host_per_s": (device, host)}


def seconds_of_copy(source: torch.Tensor, target: torch.Tensor) -> float:
    """Gives how long one copy takes by the device's own clock."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    target.copy_(source, non_blocking=True)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


if __name__ == "__main__":
    try:
        if len(sys.argv) < 3:
            raise UsageError("give an arm, and sizes such as 65MiB")
        main(sys.argv[1], [parse_bytes(size) for size in sys.argv[2:]])
    except WorkbenchError as error:
        with suppress(AttributeError):
            current().failure(str(error))  # type: ignore[attr-defined]
        print(f"workbench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
