"""Ranks of a process group, each on a GPU of its own: python ranks.py KIND WORLD_SIZE [ROUNDS]

With one rank it makes and ends the group ROUNDS times, and fails where the GPU has less memory afterwards. One rank of
several, alone: python ranks.py KIND RANK WORLD_SIZE STORE TIMEOUT
"""

from __future__ import annotations

import subprocess
import sys

import torch
import torch.distributed as dist

import workbench
from workbench.errors import WorkbenchError
from workbench.mechanisms.meeting import Place, private_store
from workbench.mechanisms.process_group import ProcessGroup

KEPT = 32 << 20  # bytes that may differ for other reasons; a group that connected takes twelve times as much


def rank(kind: str, place: Place) -> None:
    """Join, sum, leave."""
    device = torch.device("cpu" if kind == "gloo" else f"cuda:{place.rank}")
    torch.ones(1, device=f"cuda:{place.rank}")
    group = ProcessGroup(kind, place)
    with workbench.phase("process_group"):
        group.begin()
    try:
        with workbench.phase("all_reduce"):
            ones = torch.ones(1024, device=device)
            dist.all_reduce(ones)
            assert ones.sum().item() == 1024 * place.world_size
    finally:
        with workbench.phase("teardown"):
            group.end()


def main(kind: str, world_size: int, rounds: int = 1) -> None:
    """Be the only rank, or start them all."""
    if world_size == 1:
        rank(kind, Place())
        before = torch.cuda.mem_get_info()[0]
        for _ in range(rounds - 1):
            rank(kind, Place())
        assert torch.cuda.mem_get_info()[0] >= before - KEPT, "groups that were ended keep memory"
        return
    with private_store() as store:
        numbers = ([str(number), str(world_size)] for number in range(world_size))
        ranks = [subprocess.Popen([sys.executable, __file__, kind, *both, store, "120"]) for both in numbers]
        codes = [process.wait(180) for process in ranks]
    assert codes == [0] * world_size, codes


if __name__ == "__main__":
    kind, first, *others = sys.argv[1:]
    try:
        if len(others) == 3:
            rank(kind, Place(int(first), int(others[0]), others[1], float(others[2])))
        else:
            main(kind, int(first), *map(int, others))
    except WorkbenchError as error:
        sys.exit(str(error))
