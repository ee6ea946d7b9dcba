"""What runs on streams: transfers of blocks of memory, and steps of compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workbench.errors import UsageError
from workbench.recorder.probe import DEVICE_TO_HOST, HOST_TO_DEVICE

if TYPE_CHECKING:
    import torch


class Work:
    """Something on a stream: a step of compute, or a transfer."""

    __slots__ = ("end", "is_over", "number", "stream")

    def __init__(self, number: int, stream: int | None = None, end: int = 0) -> None:
        self.number = number  # in the order of submission
        self.stream = stream  # None: not handed on to the device yet
        self.end = end  # the event
        self.is_over = False

    @property
    def is_held(self) -> bool:
        """Whether the device does not have it yet."""
        return self.stream is None and not self.is_over


class Block:
    """A piece of memory that transfers go from and to, and what is under way on it. Two blocks must not overlap."""

    __slots__ = ("address", "bytes", "memory", "on_device", "readers", "writer")

    def __init__(self, address: int, size: int, on_device: bool, memory: object = None) -> None:
        self.address = address
        self.bytes = size
        self.on_device = on_device
        self.memory = memory  # what must live as long
        self.writer: Work | None = None  # the last one
        self.readers: list[Work] = []  # since then


def blocks_of(memory: torch.Tensor, size: int) -> list[Block]:
    """A tensor as blocks of `size` bytes each, which lie one behind the other."""
    if size < 1 or memory.nbytes % size:
        raise UsageError(f"{memory.nbytes} bytes are no whole number of blocks of {size}")
    if not memory.is_contiguous():
        raise UsageError("blocks lie one behind the other: make the tensor contiguous")
    if not (memory.is_cuda or memory.is_pinned()):
        raise UsageError("a copy of pageable memory waits for itself: page-lock the tensor")
    first = memory.data_ptr()
    return [Block(first + at, size, memory.is_cuda, memory) for at in range(0, memory.nbytes, size)]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A copy of a block into another, between the device and the host: a load or a store."""

    source: Block
    target: Block
    direction: int = field(init=False)  # to the device, which is a load, or to the host, which is a store

    def __post_init__(self) -> None:
        """Refuses what is no transfer."""
        if self.source.bytes != self.target.bytes:
            raise UsageError(f"a block of {self.source.bytes} bytes does not fit into one of {self.target.bytes}")
        if self.source.on_device == self.target.on_device:
            raise UsageError("a transfer has one end on the device and one on the host")
        object.__setattr__(self, "direction", HOST_TO_DEVICE if self.target.on_device else DEVICE_TO_HOST)


class Handle(Work):
    """A transfer that was submitted. The times are there when it is over."""

    __slots__ = ("began_ns", "begin", "call_ns", "direction", "ended_ns", "error", "submitted_ns", "transfer", "waits")

    def __init__(self, number: int, transfer: Transfer, waits: list[Work]) -> None:
        self.number, self.stream, self.end, self.is_over = number, None, 0, False  # as Work does, without the call
        self.transfer = transfer
        self.direction = transfer.direction
        self.waits: Sequence[Work] = waits  # until it is on the device
        self.begin = 0  # the event; none: it begins when the one before it on its stream ends
        self.submitted_ns = self.call_ns = self.began_ns = self.ended_ns = 0
        self.error: BaseException | None = None
