"""CUDA's calls for page-locked memory, through cuda-python's bindings: what fails says why, and leaves nothing."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import warnings
import weakref
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from workbench.errors import MechanismError, UsageError
from workbench.mechanisms.host_rounding import PAGE, why_not_had, why_not_locked
from workbench.units import format_bytes

PORTABLE, MAPPED = 1, 2  # of cudaHostAlloc and cudaHostRegister alike


def why_not(gpus: int) -> str | None:
    """Gives why memory can not be page-locked by CUDA's own calls on a machine with so many GPUs."""
    if not gpus:
        return "page-locked memory needs a GPU, and this machine has none"
    if not _has_bindings():
        return "it needs cuda-python's bindings: pip install memory-workbench[cuda]"
    return None


def allocated(size: int) -> Any:
    """Gives a buffer of exactly `size` page-locked bytes; they are freed with the last that uses the buffer."""
    runtime = _runtime()
    address = int(_checked("cudaHostAlloc", size, runtime.cudaHostAlloc(size, PORTABLE | MAPPED)))
    return _buffer(address, size, lambda: _released("cudaFreeHost", size, runtime.cudaFreeHost(address)))


def registered(size: int) -> Any:
    """Gives a buffer of `size` bytes in a mapping that is page-locked; both end with the last that uses the buffer."""
    runtime = _runtime()
    pages = mapped(size)
    address = ctypes.addressof(ctypes.c_ubyte.from_buffer(pages))
    whole = -(-size // PAGE) * PAGE  # what is locked is whole pages in any case
    try:
        _checked("cudaHostRegister", size, runtime.cudaHostRegister(address, whole, PORTABLE | MAPPED))
    except MechanismError:
        pages.close()  # and not when somebody lets go of the error
        raise

    def release() -> None:
        _released("cudaHostUnregister", size, runtime.cudaHostUnregister(address))
        pages.close()  # only now: another thread may be given the same addresses at once

    return _buffer(address, size, release)


def mapped(size: int) -> mmap.mmap:
    """Gives `size` bytes in pages of their own, in memory from the start."""
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    except (OSError, ValueError, OverflowError) as error:
        why = why_not_had(size, getattr(error, "strerror", None) or str(error))
        raise MechanismError(f"{format_bytes(size)} can not be mapped: {why}") from None


def device_address(address: int, last: int) -> int:
    """Gives the address under which the GPU sees page-locked memory; refuses what is not, from end to end."""
    runtime = _runtime()
    for each in (last, address):
        error, found = runtime.cudaPointerGetAttributes(each)
        if int(error):
            runtime.cudaGetLastError()  # so that torch does not find it at its next call
        if int(error) or int(found.type) != int(runtime.cudaMemoryType.cudaMemoryTypeHost):
            raise UsageError("the tensor is not page-locked, so the GPU can not see it: allocate it page-locked")
    return int(found.devicePointer)


def _buffer(address: int, size: int, release: Callable[[], None]) -> Any:
    """The bytes at an address, which are released after the last use of them."""
    buffer = (ctypes.c_ubyte * size).from_address(address)
    owner = os.getpid()

    def freed() -> None:
        if os.getpid() == owner:  # CUDA can not be used in a fork, and the memory is its parent's
            release()

    weakref.finalize(buffer, freed).atexit = False  # the end of the process frees it, also where tensors are left
    return buffer


def _released(call: str, size: int, answer: tuple[Any]) -> None:
    """Says what could not be released: nobody is there to catch an error."""
    [error] = answer
    if int(error):
        said = _said(call, error)
        warnings.warn(f"{format_bytes(size)} of page-locked memory stay taken: {said}", RuntimeWarning, stacklevel=2)


def _checked(call: str, size: int, answer: tuple[Any, ...]) -> Any:
    error, *values = answer
    if int(error):
        why = why_not_locked(size, _said(call, error))
        raise MechanismError(f"{format_bytes(size)} can not be page-locked: {why}")
    return values[0] if values else None


def _said(call: str, error: Any) -> str:
    runtime = _runtime()
    runtime.cudaGetLastError()  # so that torch does not find it at its next call
    return f"{call} said {runtime.cudaGetErrorString(error)[1].decode()}"


@functools.cache
def _has_bindings() -> bool:
    try:
        return find_spec("cuda.bindings.runtime") is not None
    except ModuleNotFoundError:
        return False


def _runtime() -> Any:
    if not _has_bindings():
        raise UsageError(f"memory can not be page-locked here: {why_not(1)}")
    from cuda.bindings import runtime

    return runtime
