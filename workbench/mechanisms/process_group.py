"""The process group of an engine's ranks: how NCCL or gloo is begun decides what it takes of a GPU."""

from __future__ import annotations

import ctypes
import functools
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePath
from types import TracebackType
from typing import Any

from workbench.errors import MechanismError, UsageError, nearest
from workbench.mechanisms.meeting import Place, meeting
from workbench.recorder.recorder import tag
from workbench.recorder.unrecorded import FIRST_ADDRESS
from workbench.run.columns import equals, numbers
from workbench.run.evidence import CANNOT_TELL, NOT_OBSERVED, OBSERVED, Evidence, unseen
from workbench.run.run import Run
from workbench.units import format_bytes

PHASE = "process_group"
TAG = "process_group "  # and the group's name: of the memory that is taken while a group is made
PLUMBING = ("GroupCoordinator.__init__", "init_model_parallel_group")  # vLLM's, between a group and who wants it
NCCL_OWNER = "libnccl.so.2"


@dataclass(frozen=True)
class Kind:
    """A way to begin a group."""

    backend: str  # torch's name of it
    connects_at_once: bool = False  # NCCL with its GPU named; else it connects at the first collective


KINDS = {"nccl-lazy": Kind("nccl"), "nccl-eager": Kind("nccl", connects_at_once=True), "gloo": Kind("gloo")}


def why_not(name: str, gpus: int) -> str | None:
    """Gives why a machine with so many GPUs can not have a group of this kind."""
    if KINDS[name].backend == "nccl" and not gpus:
        return "NCCL needs a GPU, and this machine has none"
    return None


def described() -> dict[str, Any]:
    """Gives this rank's place in torch's default group, and by what its data really go."""
    import torch.distributed as dist

    return {"rank": dist.get_rank(), "world_size": dist.get_world_size(), "backend": dist.get_backend()}


class ProcessGroup:
    """`with ProcessGroup("gloo"): …`: torch's default group is of this kind in the block, and gone after it.

    In a process forked from one with a group, the group is the parent's: there it can not be used, and is not ended.
    """

    def __init__(self, name: str, place: Place | None = None, device: int | None = None) -> None:
        if name not in KINDS:
            raise UsageError(f"there is no process group {name!r}: {nearest(name, KINDS)}")
        self.name = name
        self.place = place or Place()
        self.device = self.place.rank if device is None else device  # the GPU of this rank
        self._held = ExitStack()
        self._group: Any = None  # torch's, once it has begun

    def __enter__(self) -> ProcessGroup:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def begin(self) -> None:
        """Joins the group; every rank is there when this returns. Where it fails nothing is left."""
        import torch
        import torch.distributed as dist

        if dist.is_initialized():
            raise UsageError("this process has a process group already, or was forked from one that has: end it first")
        self._refuse(torch.cuda.device_count())
        with _in_one_line(self.name), ExitStack() as held:
            store = held.enter_context(meeting(self.place))
            held.callback(self._destroy, os.getpid())
            with tag(f"{TAG}default"):
                self._init(store)
            self._group = dist.group.WORLD
            held.enter_context(_kept_in_forks(store, self._group))
            self._held = held.pop_all()

    def end(self) -> None:
        """Leaves the group and removes its store; also twice, also where it was destroyed or another made since."""
        self._held.close()

    def _destroy(self, owner: int) -> None:
        """Ends this group, or what there is of one that failed to begin: no other one."""
        import torch.distributed as dist

        group, self._group = self._group or dist.group.WORLD, None
        if os.getpid() != owner:
            return  # the threads that would have to end are not in a fork
        if group is not None and group is dist.group.WORLD:
            dist.destroy_process_group()

    def _init(self, store: Any) -> None:
        import torch
        import torch.distributed as dist

        kind, place = KINDS[self.name], self.place
        device = None
        if kind.backend == "nccl":
            torch.cuda.set_device(self.device)
            device = torch.device("cuda", self.device) if kind.connects_at_once else None
        dist.init_process_group(
            kind.backend,
            store=store,
            rank=place.rank,
            world_size=place.world_size,
            timeout=timedelta(seconds=place.timeout_s),
            device_id=device,
        )
        if kind.backend == "gloo":  # by it NCCL's ranks would connect, lazy ones too
            dist.barrier()  # a rank that was done and left would cut off those that still connect to it

    def _refuse(self, gpus: int) -> None:
        if reason := why_not(self.name, gpus):
            raise UsageError(f"no process group {self.name!r} here: {reason}")
        if KINDS[self.name].backend == "nccl" and not 0 <= self.device < gpus:
            raise UsageError(f"rank {self.place.rank} can not have GPU {self.device}: this machine has {gpus}")


@contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    """Turns what torch raises in the block into one clear line."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        lines = (line.strip() for line in str(error).splitlines())
        raise MechanismError(f"process group {name!r} failed to begin: {next(filter(None, lines), '')}") from error


_alive: list[object] = []


@contextmanager
def _kept_in_forks(*objects: object) -> Iterator[None]:
    """Keeps what a forked child shares with this process from being taken apart when the child ends.

    The child would wait for threads that it does not have, and remove the file in which its parent's ranks meet.
    """
    _follow_forks()
    _alive.extend(objects)
    try:
        yield
    finally:
        for each in objects:
            _alive.remove(each)


@functools.cache
def _follow_forks() -> None:
    os.register_at_fork(after_in_child=_keep)


def _keep() -> None:
    for each in _alive:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


@dataclass(frozen=True)
class Communicator:
    """What NCCL took of one rank's GPU for one group."""

    process: int
    group: str  # its name where the engine says it, else who made it
    phase: str | None  # the innermost in which it was made
    bytes: int
    allocations: int


def communicators(run: Run) -> list[Communicator]:
    """Gives what each group's NCCL took of each rank's GPU, in the order in which they were made.

    Between ranks a thread of NCCL's own takes some of it, which has no tag and no Python: it is of the group that its
    process was connecting then.
    """
    events = run.table("events")
    rows = equals(events, "owner", NCCL_OWNER) & equals(events, "tier", "gpu") & equals(events, "kind", "alloc")
    rows &= numbers(events, "address") < FIRST_ADDRESS  # from there on is what it gave back and another rank still had
    frames = run.table("stacks")
    stacks = dict(zip(frames["stack"].to_pylist(), frames["frames"].to_pylist(), strict=True))
    phases = run.table("phases").to_pylist()
    taken: dict[tuple[int, str, str | None], list[int]] = defaultdict(list)
    connecting: dict[int, str] = {}  # by process
    for row in events.filter(rows).select(["time_ns", "process", "tag", "stack", "bytes"]).to_pylist():
        tag, called = row["tag"], stacks.get(row["stack"], [])
        if tag or called:
            connecting[row["process"]] = _group(tag, called)
        group = connecting.get(row["process"], "NCCL")
        taken[row["process"], group, _phase(phases, row)].append(row["bytes"])
    return [Communicator(*key, sum(sizes), len(sizes)) for key, sizes in taken.items()]


def _group(given: str | None, frames: Sequence[str]) -> str:
    """The group's name, or the call that made it connect."""
    if given and given.startswith(TAG):
        return given.removeprefix(TAG)
    called = [frame for frame in frames if frame.startswith("torch/distributed/distributed_c10d.py")]
    callers = [frame for frame in frames if not frame.startswith("torch/") and not frame.endswith(PLUMBING)]
    what = called[-1].split(" ", 1)[1] if called else "NCCL"
    if not callers:
        return what
    place, _, function = callers[0].partition(" ")
    return f"{what} in {function} ({PurePath(place).name})"


def _phase(phases: list[dict[str, Any]], row: dict[str, Any]) -> str | None:
    around = [
        phase
        for phase in phases
        if phase["process"] == row["process"]
        and phase["start_ns"] <= row["time_ns"]
        and (phase["end_ns"] is None or row["time_ns"] <= phase["end_ns"])
    ]
    return max(around, key=lambda phase: int(phase["depth"]))["name"] if around else None


def evidence(run: Run, chosen: Any) -> Evidence | None:
    """Gives whether the ranks' groups are of the kind that was asked for; None: nothing was asked."""
    if chosen.name == "stock":
        return None
    setting = f"process_group {chosen.name}"
    said = run.manifest.notes.get(PHASE, {}).get("ranks")
    if not said:
        return Evidence(setting, CANNOT_TELL, "no rank said of what kind its group is")
    if run.manifest.gpus and (blind := unseen(run, setting, "driver")):
        return blind
    backends = sorted({rank["backend"] for rank in said})
    found = communicators(run)
    shows = backends == [KINDS[chosen.name].backend] and _shows(chosen.name, found)
    what = f"{len(said)} rank{'s' * (len(said) > 1)} with {' and '.join(backends)}; {_told(found)}"
    return Evidence(setting, OBSERVED if shows else NOT_OBSERVED, what)


def evidence_of_ranks(run: Run, chosen: Any) -> Evidence | None:
    """Gives whether as many processes as were asked for hold weights; None: one was asked for."""
    if chosen.tensor == 1:
        return None
    events = run.table("events").filter(equals(run.table("events"), "tag", "weights"))
    processes = len(set(events["process"].to_pylist()))
    setting, why = f"parallel.tensor {chosen.tensor}", f"memory tagged weights in {processes} processes"
    if processes == chosen.tensor:
        return Evidence(setting, OBSERVED, why)
    return unseen(run, setting, "torch") or Evidence(setting, NOT_OBSERVED, why)


def _shows(name: str, found: list[Communicator]) -> bool:
    """Whether what NCCL took, and when, is what a kind of group takes."""
    if name == "gloo":
        return not found
    return any(one.phase == PHASE for one in found) == KINDS[name].connects_at_once


def _told(found: list[Communicator]) -> str:
    if not found:
        return "libnccl took nothing of a GPU"
    total, count = sum(one.bytes for one in found), sum(one.allocations for one in found)
    each = "; ".join(f"process {one.process}, {one.group}: {format_bytes(one.bytes)}" for one in found)
    return f"libnccl took {format_bytes(total)} of GPUs in {count} allocations ({each})"
