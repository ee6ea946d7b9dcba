"""What runs on streams: transfers of blocks of memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from workbench.errors import UsageError
from workbench.recorder.probe import DEVICE_TO_HOST, HOST_TO_DEVICE

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of memory that transfers go from and to. Two blocks must not overlap."""

    address: int
    bytes: int
    on_device: bool
    memory: object = field(default=None, compare=False)  # what must live as long


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
    words: tuple[int, int, int] = field(init=False, repr=False)  # as it is submitted

    def __post_init__(self) -> None:
        """Refuses what is no transfer."""
        if self.source.bytes != self.target.bytes:
            raise UsageError(f"a block of {self.source.bytes} bytes does not fit into one of {self.target.bytes}")
        if self.source.on_device == self.target.on_device:
            raise UsageError("a transfer has one end on the device and one on the host")
        object.__setattr__(self, "direction", HOST_TO_DEVICE if self.target.on_device else DEVICE_TO_HOST)
        words = self.target.address, self.source.address, self.source.bytes << 1 | self.source.on_device
        object.__setattr__(self, "words", words)


class Result(NamedTuple):
    """What became of a transfer. Times are of the one clock."""

    stream: int = 0
    submitted_ns: int = 0  # to the driver
    call_ns: int = 0  # that the driver took for it
    began_ns: int = 0  # on the device
    ended_ns: int = 0
    error: Exception | None = None


class Handle:
    """A transfer that was submitted."""

    __slots__ = ("result", "transfer")

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.result: Result | None = None  # until it is known to be over

    @property
    def is_over(self) -> bool:
        """Whether it is known to be over, or failed."""
        return self.result is not None

    @property
    def error(self) -> Exception | None:
        """What it failed with."""
        return self.result.error if self.result else None
