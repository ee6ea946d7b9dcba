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

    def __post_init__(self) -> None:
        """Refuses what no memory can be, and what the words of a submission can not say."""
        for what, value, bits in ("address", self.address, 63), ("size", self.bytes, 62):
            if not isinstance(value, int) or not 0 <= value < 1 << bits:
                raise UsageError(f"a block's {what} must be a whole number from 0 to 2^{bits}, not {value!r}")


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


class Result(NamedTuple):
    """What became of a transfer. Times are of the one clock."""

    stream: int = 0
    submitted_ns: int = 0
    handed_ns: int = 0  # on to the driver
    call_ns: int = 0  # that the driver took for it
    began_ns: int = 0  # on the device
    ended_ns: int = 0
    error: Exception | None = None


class Transfer:
    """A copy of a block into another, between the device and the host: a load or a store.

    It may be submitted again when it is over.
    """

    __slots__ = ("direction", "is_under_way", "result", "source", "target", "words")

    def __init__(self, source: Block, target: Block) -> None:
        if source.bytes != target.bytes:
            raise UsageError(f"a block of {source.bytes} bytes does not fit into one of {target.bytes}")
        if source.on_device == target.on_device:
            raise UsageError("a transfer has one end on the device and one on the host")
        self.source, self.target = source, target
        self.direction = HOST_TO_DEVICE if target.on_device else DEVICE_TO_HOST
        self.words = _word(target.address), _word(source.address), _word(source.bytes << 1 | source.on_device)
        self.is_under_way = False  # it was submitted, and is not known to be over
        self.result: Result | None = None  # what became of it when it was submitted last

    @property
    def is_over(self) -> bool:
        """Whether it was submitted, and is known to be over or to have failed."""
        return self.result is not None and not self.is_under_way

    @property
    def error(self) -> Exception | None:
        """What it failed with."""
        return self.result.error if self.result and self.is_over else None


def _word(value: int) -> int:
    """As it is submitted: never 0, which is a word that nobody has written."""
    return value << 1 | 1
