"""Nanoseconds of an allocation and its free by a Python program of some depth: python pairs.py SIZE ROUNDS"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

PAIRS = 20_000
REST_S = 0.4  # in which the scribe takes what was recorded: the ring is never full
DEPTH = 20  # frames, as an engine has them


def pair_ns(size: int, depth: int = DEPTH) -> float:
    """Of one array that nothing is written to."""
    if depth:
        return pair_ns(size, depth - 1)
    start = time.perf_counter_ns()
    for _ in range(PAIRS):
        np.empty(size, np.uint8)
    return (time.perf_counter_ns() - start) / PAIRS


def least_ns(size: int, rounds: int) -> float:
    """The least of the rounds: what disturbs only adds."""
    found = [pair_ns(size)]
    for _ in range(rounds):
        time.sleep(REST_S)
        found.append(pair_ns(size))
    return min(found)


if __name__ == "__main__":
    print(json.dumps({"pair_ns": least_ns(int(sys.argv[1]), int(sys.argv[2]))}))
