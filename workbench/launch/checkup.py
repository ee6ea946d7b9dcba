"""A program that takes memory in every way that can be recorded: `doctor` records it to see what is seen here.

`python -m workbench.launch.checkup`
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from importlib.util import find_spec

SIZE = 3 << 20  # bytes taken in each way

MALLOC, MMAP, TORCH_CPU, TORCH_GPU = "checkup malloc", "checkup mmap", "checkup torch cpu", "checkup torch gpu"
WAYS = {MALLOC: "host", MMAP: "host", TORCH_CPU: "torch", TORCH_GPU: "torch"}
"""The tags of the allocations, and the source that should see each."""


def main() -> int:
    """Take and give back, each under its own tag."""
    from workbench.recorder.recorder import tag

    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    with tag(MALLOC):
        libc.free(libc.malloc(SIZE))
    with tag(MMAP):
        mmap.mmap(-1, SIZE).close()
    if find_spec("torch"):
        import torch

        with tag(TORCH_CPU):
            torch.ones(SIZE, dtype=torch.uint8)
        if torch.cuda.is_available():
            with tag(TORCH_GPU):
                torch.ones(SIZE, dtype=torch.uint8, device="cuda")
                torch.cuda.synchronize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
