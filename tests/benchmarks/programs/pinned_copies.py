"""Copies from and to host memory of every arm, in turn in one process: pinned_copies.py BYTES …

Where a process finds its pages differs by more than arms do. Says in JSON the bytes a second of every copy, by size and
arm; less the arm that is for a whole process.
"""

from __future__ import annotations

import json
import random
import sys

import torch

from workbench.engines.host import Host
from workbench.mechanisms.host_alloc import allocate, why_not
from workbench.mechanisms.host_rounding import ARMS
from workbench.studies.pinned_program import MOST_COPIED, seconds_of_copy, ways

ROUNDS = 20


def speeds(size: int) -> dict[str, dict[str, list[float]]]:
    """Of every arm and way; the first round is not counted."""
    arms = [arm for arm in ARMS if arm != "pinned-pool-exact" and not why_not(arm, Host.here().gpus)]
    device = torch.empty(size, dtype=torch.uint8, device="cuda")
    copies = {arm: ways(allocate(arm, size).tensor, device) for arm in arms}
    found: dict[str, dict[str, list[float]]] = {arm: {way: [] for way in copies[arm]} for arm in arms}
    for number in range(1 + ROUNDS):
        for arm in random.sample(arms, len(arms)):
            for way, pair in copies[arm].items():
                seconds = seconds_of_copy(*pair)
                if number:
                    found[arm][way].append(size / seconds)
    return found


if __name__ == "__main__":
    sizes = [min(int(size), MOST_COPIED) for size in sys.argv[1:]]
    print(json.dumps([speeds(size) for size in sizes]))
