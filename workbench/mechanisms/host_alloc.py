"""Host memory for copies to and from a GPU, by the ways there are: what each takes, and how the GPU sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from workbench.errors import MechanismError, UsageError, nearest
from workbench.mechanisms import page_locking
from workbench.mechanisms.host_rounding import check_size, refuse_more_than_there_is, taken_bytes, why_not_locked
from workbench.units import format_bytes

if TYPE_CHECKING:
    import torch

UNROUNDED_FROM = (2, 13)  # torch's version


class HostAllocator(Protocol):
    """A way to have host memory."""

    name: ClassVar[str]

    def why_not(self, gpus: int) -> str | None:
        """Why it can not be on a machine with so many GPUs."""

    def tensor(self, asked: int) -> torch.Tensor:
        """A tensor of so many bytes, at least one; its memory goes with the last view of it."""


class HostMemory:
    """Some host memory: `tensor` has the bytes that were asked for, `taken` is how many its arm takes for them.

    A recorded run's evidence holds that to what was taken. `free` lets go of it. What still has a view of the tensor
    keeps the memory until it ends too.
    """

    def __init__(self, arm: str, tensor: torch.Tensor) -> None:
        self._tensor: torch.Tensor | None = tensor
        self.asked = len(tensor)
        self.taken = taken_bytes(arm, self.asked)

    @property
    def tensor(self) -> torch.Tensor:
        """The bytes: uint8."""
        if self._tensor is None:
            raise UsageError("this host memory has been freed")
        return self._tensor

    def free(self) -> None:
        """Gives the memory back; also twice."""
        self._tensor = None


def allocate(arm: str, asked: int) -> HostMemory:
    """Gives host memory by an arm of `host_rounding.ARMS`; where it can not be had nothing is left."""
    import torch

    allocator = _arm(arm)
    check_size(asked)
    if reason := allocator.why_not(torch.cuda.device_count()):
        raise UsageError(f"no host memory by {arm!r} here: {reason}")
    if not asked:
        return HostMemory(arm, torch.empty(0, dtype=torch.uint8))
    refuse_more_than_there_is(arm, asked)
    return HostMemory(arm, allocator.tensor(asked))


def why_not(arm: str, gpus: int) -> str | None:
    """Gives why an arm can not be on a machine with so many GPUs; imports torch only where that decides it."""
    return _arm(arm).why_not(gpus)


class Pageable:
    """See `HostAllocator`."""

    name: ClassVar[str] = "pageable"

    def why_not(self, gpus: int) -> str | None:
        return None

    def tensor(self, asked: int) -> torch.Tensor:
        return _over(page_locking.mapped(asked))


class PinnedPool:
    """See `HostAllocator`."""

    name: ClassVar[str] = "pinned-pool"

    def why_not(self, gpus: int) -> str | None:
        return None if gpus else "page-locked memory needs a GPU, and this machine has none"

    def tensor(self, asked: int) -> torch.Tensor:
        if PinnedPoolExact.is_chosen:
            raise UsageError("torch's pool rounds no more where pinned-pool-exact was used: take another process")
        return self._pinned(asked)

    def _pinned(self, asked: int) -> torch.Tensor:
        import torch

        try:
            return torch.empty(asked, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            why = why_not_locked(taken_bytes(self.name, asked), str(error).splitlines()[0])
            raise MechanismError(f"{format_bytes(asked)} can not be had of torch's pinned pool: {why}") from None


class PinnedPoolExact(PinnedPool):
    """See `HostAllocator`. What torch is told holds for the whole process from the first allocation on.

    It is told to keep nothing too: torch 2.13 gives what it kept of one size for another up to the same power of two,
    also where it is too small. What copies have used goes back when torch is asked next after them.
    """

    name: ClassVar[str] = "pinned-pool-exact"
    setting: ClassVar[str] = "pinned_max_round_threshold_mb:0,pinned_max_cached_size_mb:0"
    is_chosen = False  # in this process

    def why_not(self, gpus: int) -> str | None:
        import torch

        if tuple(map(int, torch.__version__.split(".")[:2])) < UNROUNDED_FROM:
            return f"torch rounds in any case before {'.'.join(map(str, UNROUNDED_FROM))}, this is {torch.__version__}"
        return super().why_not(gpus)

    def tensor(self, asked: int) -> torch.Tensor:
        if not PinnedPoolExact.is_chosen:
            self._choose()
        return self._pinned(asked)

    def _choose(self) -> None:
        """Adds to what torch was told so far: what is not told again torch may set back."""
        import torch

        told = torch._C._accelerator_getAllocatorSettings().rstrip(", ")  # after ",," torch reads no more
        torch._C._accelerator_setAllocatorSettings(f"{told},{self.setting}" if told else self.setting)
        torch._C._host_emptyCache()  # of what was rounded
        PinnedPoolExact.is_chosen = True


class HostAlloc:
    """See `HostAllocator`."""

    name: ClassVar[str] = "host-alloc"

    def why_not(self, gpus: int) -> str | None:
        return page_locking.why_not(gpus)

    def tensor(self, asked: int) -> torch.Tensor:
        return _over(page_locking.allocated(asked))


class HostRegister:
    """See `HostAllocator`."""

    name: ClassVar[str] = "host-register"

    def why_not(self, gpus: int) -> str | None:
        return page_locking.why_not(gpus)

    def tensor(self, asked: int) -> torch.Tensor:
        return _over(page_locking.registered(asked))


_ALLOCATORS: dict[str, HostAllocator] = {
    one.name: one for one in (Pageable(), PinnedPool(), PinnedPoolExact(), HostAlloc(), HostRegister())
}


def _arm(name: str) -> HostAllocator:
    if name not in _ALLOCATORS:
        raise UsageError(f"there is no way {name!r} to have host memory: {nearest(name, _ALLOCATORS)}")
    return _ALLOCATORS[name]


def _over(buffer: Any) -> torch.Tensor:
    """A tensor on a buffer, which lives as long as any view of the tensor."""
    import torch

    return torch.frombuffer(buffer, dtype=torch.uint8)


class Mapped(NamedTuple):
    """Memory of the host that the GPU sees too."""

    host: torch.Tensor
    device: torch.Tensor


def device_view(tensor: torch.Tensor) -> torch.Tensor:
    """Gives a page-locked tensor as the GPU sees it: the same bytes, never a copy; refuses what is not page-locked.

    Both tensors may go while kernels of the stream that is current now still use the memory. Where those of another
    stream do, keep one of the two until they are over.
    """
    import torch

    if tensor.device.type != "cpu":
        raise UsageError(f"a tensor on {tensor.device} is not on the host: the GPU has no view of it to give")
    if reason := page_locking.why_not(torch.cuda.device_count()):
        raise UsageError(f"no GPU can view the tensor: {reason}")
    device = torch.device("cuda", torch.cuda.current_device())
    if not tensor.numel():
        return torch.empty_like(tensor, device=device)
    size = (sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1) * tensor.itemsize
    address = page_locking.device_address(tensor.data_ptr(), tensor.data_ptr() + size - 1)
    raw = torch.as_tensor(_OnDevice(address, size, tensor), device=device)
    if raw.data_ptr() != address:
        raise MechanismError(
            "torch copied the memory instead of viewing it: make the GPU current under which it was had"
        )
    _used_by_current_stream(tensor, device)
    return raw.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())


def _used_by_current_stream(tensor: torch.Tensor, device: torch.device) -> None:
    """Tells torch's pool of the stream, as copies do and kernels do not: it waits for that before it hands memory on.

    CUDA, which frees what is not of the pool, waits for the whole GPU.
    """
    tensor.as_strided((1,), (1,)).to(device, non_blocking=True)


def allocate_mapped(asked: int) -> Mapped:
    """Gives exactly so many page-locked bytes as a tensor of the host, and the same bytes as a tensor of the GPU.

    How long they must be kept `device_view` says.
    """
    host = allocate("host-alloc", asked).tensor
    return Mapped(host, device_view(host))


class _OnDevice:
    """What torch makes a tensor of without copying; holds the host's tensor for as long as that lives."""

    def __init__(self, address: int, size: int, host: torch.Tensor) -> None:
        self._host = host
        self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}
