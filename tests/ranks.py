"""Ranks of a gloo group, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from workbench.errors import WorkbenchError
from workbench.mechanisms.meeting import Place
from workbench.mechanisms.process_group import ProcessGroup

FORK = multiprocessing.get_context("fork")


def summed(place: Place) -> float:
    with ProcessGroup("gloo", place):
        ones = torch.ones(4)
        dist.all_reduce(ones)
        return float(ones.sum())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ranks_of(store: str, *world_sizes: int, timeout_s: float = 20) -> list[Callable[[], float]]:
    places = [Place(rank, size, store, timeout_s) for rank, size in enumerate(world_sizes)]
    return [lambda place=place: summed(place) for place in places]  # type: ignore[misc]


def together(*ranks: Callable[[], Any]) -> list[Any]:
    """What each rank gives or raises, each in a process of its own; None: it was killed."""
    pipes = []
    for rank in ranks:
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_tell, args=(rank, theirs))
        process.start()
        theirs.close()
        pipes.append((process, ours))
    said = []
    for process, ours in pipes:
        try:
            said.append(ours.recv())
        except EOFError:
            said.append(None)
        process.join(20)
        assert process.exitcode is not None
    return said


def _tell(rank: Callable[[], Any], pipe: Any) -> None:
    try:
        pipe.send(rank())
    except WorkbenchError as error:
        pipe.send(error)
