"""How often a step of a generation asks for memory or gives it back: LD_PRELOAD=calls.so python calls.py STEPS ENGINE

Prints the calls of a step and its seconds, both in the median.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from statistics import median

from tests.benchmarks.programs.steps import WARM_UP, pieces, step_seconds
from workbench.recorder.probe import NullProbe


def main(steps: int, name: str) -> None:
    """Generate and count."""
    counter = ctypes.c_long.in_dll(ctypes.CDLL(os.environ["LD_PRELOAD"]), "workbench_calls")
    stream = pieces(name, NullProbe(), WARM_UP + steps)
    seconds, calls = [], []
    for _ in range(WARM_UP + steps):
        before = counter.value
        seconds.append(step_seconds(stream))
        calls.append(counter.value - before)
    print(json.dumps({"calls": median(calls[WARM_UP:]), "seconds": median(seconds[WARM_UP:])}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
