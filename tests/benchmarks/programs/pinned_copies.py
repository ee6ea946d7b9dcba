"""Copies from and to host memory of every arm, in turn in one process: pinned_copies.py BYTES …

Where memory lies differs by more than arms do, so every round has memory of its own. Says in JSON the bytes a second of
every copy, by size, arm and way; less the arm that is for a whole process.
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

ROUNDS = (10, 200)  # least and most: of little memory there are many, whose copies take a few us more or less
MOST_HAD = 4 << 30  # bytes, in all rounds of a size


def speeds(size: int) -> dict[str, dict[str, list[float]]]:
    """Of every arm and way; the first copy of a round is not counted."""
    arms = [arm for arm in ARMS if arm != "pinned-pool-exact" and not why_not(arm, Host.here().gpus)]
    device = torch.empty(size, dtype=torch.uint8, device="cuda")
    found: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    least, most = ROUNDS
    for _ in range(max(least, min(most, MOST_HAD // size))):
        hosts = {arm: allocate(arm, size) for arm in arms}
        for arm in random.sample(arms, len(arms)):
            for way, pair in ways(hosts[arm].tensor, device).items():
                seconds_of_copy(*pair)
                found[arm].setdefault(way, []).append(size / seconds_of_copy(*pair))
        del hosts
        torch._C._host_emptyCache()
    return found


if __name__ == "__main__":
    sizes = [min(int(size), MOST_COPIED) for size in sys.argv[1:]]
    print(json.dumps([speeds(size) for size in sizes]))
