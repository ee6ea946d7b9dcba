"""The process groups of vLLM's workers: of the kind that a config asks for, each with its name on what it takes."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from workbench.mechanisms.meeting import Place, private_store
from workbench.mechanisms.process_group import PHASE, TAG, ProcessGroup
from workbench.recorder.recorder import current

EAGER = "nccl-eager"
VARIABLE = "WORKBENCH_VLLM_PROCESS_GROUP"  # kind and store; workers are started as processes of vLLM's choice


@contextmanager
def announced(name: str) -> Iterator[None]:
    """Tells workers that are started in the block of which kind their group is to be; none outlives the block."""
    with private_store() if name == EAGER else nullcontext("") as store:
        os.environ[VARIABLE] = f"{name} {store}"
        try:
            yield
        finally:
            del os.environ[VARIABLE]


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Lets vLLM make its groups by gloo in the block, where that was asked for."""
    from vllm.platforms import current_platform

    plain = current_platform.dist_backend
    if name == "gloo":
        current_platform.dist_backend = name
    try:
        yield
    finally:
        current_platform.dist_backend = plain


def begun(name: str, store: str, rank: int, world_size: int, device: int) -> ProcessGroup | None:
    """Gives the default group where vLLM is to find one: it makes none of its own then, and adds all others to it."""
    if name != EAGER:
        return None  # lazy is what vLLM does by itself
    group = ProcessGroup(name, Place(rank, world_size, store), device)
    with current().phase(PHASE):
        group.begin()
    return group


def ended(group: ProcessGroup) -> None:
    """Ends the default group, and vLLM's before it."""
    from vllm.distributed import parallel_state

    parallel_state.destroy_model_parallel()
    parallel_state.destroy_distributed_environment()
    group.end()


@contextmanager
def named() -> Iterator[None]:
    """Tags what is taken while vLLM makes a group with the group's name."""
    from vllm.distributed.parallel_state import GroupCoordinator

    plain = GroupCoordinator.__init__
    signature = inspect.signature(plain)

    @functools.wraps(plain)
    def tagged(self: Any, *given: Any, **known: Any) -> None:
        name = signature.bind(self, *given, **known).arguments.get("group_name") or "anonymous"
        with current().tag(f"{TAG}{name}"):
            plain(self, *given, **known)

    GroupCoordinator.__init__ = tagged
    try:
        yield
    finally:
        GroupCoordinator.__init__ = plain


def described() -> dict[str, Any]:
    """Gives this rank's place, and by what its groups' data really go."""
    import torch.distributed as dist
    from vllm.distributed.parallel_state import get_world_group

    world = get_world_group()
    return {
        "rank": world.rank,
        "world_size": world.world_size,
        "backend": dist.get_backend(world.device_group),
        "metadata": dist.get_backend(world.cpu_group),
    }
