"""Memory that the driver is given back, does not take back, and loses with its context (kernels/driver_known.c)."""

from __future__ import annotations

from typing import Any

from tests.unit.driven import MIB, VIRTUAL, allocations
from tests.unit.test_unrecorded import CONTEXT, MODULES, row, settled
from workbench.recorder.native import ALLOC, FREE, MEASURE
from workbench.recorder.unrecorded import CONTEXT_ENDED

EVERY_KIND = """
runtime.rt_start()
size, stream = ctypes.c_size_t(4 * MIB), ctypes.c_void_p(0x5550)
plain, on_stream, pinned, own = word(ask(4 * MIB)), word(), ctypes.c_void_p(), ctypes.create_string_buffer(4 * MIB)
cuda.cuMemAllocAsync(byref(on_stream), size, stream)
cuda.cuMemHostAlloc(byref(pinned), size, 0)
cuda.cuMemHostRegister_v2(own, size, 0)
def free_all():
    return [cuda.cuMemFree_v2(plain), cuda.cuMemFreeAsync(on_stream, stream), cuda.cuMemFreeHost(pinned),
            cuda.cuMemHostUnregister(own)]
"""


def pairs(found: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Kind and address, an address by the order in which they came."""
    taken = allocations(found)
    order = list(dict.fromkeys(record["address"] for record in taken))
    return [(record["kind"], order.index(record["address"])) for record in taken]


def test_a_free_that_fails_is_none(recorded: Any) -> None:
    found = recorded(
        EVERY_KIND
        + """
cuda.test_fail(1)
assert all(free_all())
cuda.cuStreamCreate(byref(stream), 0)
cuda.test_fail(0)
assert not any(free_all())
"""
    )
    assert pairs(found) == [(ALLOC, n) for n in range(4)] + [(FREE, n) for n in range(4)]
    last_reading = max(place for place, record in enumerate(found) if record["kind"] == MEASURE)
    assert all(record["kind"] == FREE for record in found[last_reading + 1 :])


def test_virtual_memory_that_could_not_be_given_back_is_there(recorded: Any) -> None:
    found = recorded(
        VIRTUAL
        + """
cuda.cuMemMap(word(0x9000), size, word(0), handle, word(0))
cuda.test_fail(1)
assert cuda.cuMemUnmap(word(0x9000), size) and cuda.cuMemRelease(handle)
cuda.test_fail(0)
cuda.cuMemUnmap(word(0x9000), size)
cuda.cuStreamCreate(byref(stream), 0)
cuda.cuMemRelease(handle)
"""
    )
    assert pairs(found) == [(ALLOC, 0), (FREE, 0)]
    assert allocations([found[-1]])[0]["kind"] == FREE


AGAIN = """
def at_once(action):  # what another thread does before the one that frees has returned
    global kept
    kept = ctypes.CFUNCTYPE(None)(action)
    cuda.test_on_free(kept)
"""


def test_an_address_that_another_has_before_its_free_returns_is_the_others(recorded: Any) -> None:
    found = recorded(
        AGAIN
        + """
runtime.rt_start()
first = ask(4 * MIB)
cuda.test_next(word(first))
at_once(lambda: ask(6 * MIB))
give_back(first)
cuda.cuStreamCreate(byref(ctypes.c_void_p()), 0)
give_back(first)
give_back(first)  # not known: taken before the recording, as far as can be told
"""
    )
    taken = allocations(found)
    assert pairs(found) == [(ALLOC, 0), (ALLOC, 0), (FREE, 0), (FREE, 0)]
    assert [record["bytes"] for record in taken[:2]] == [4 * MIB, 6 * MIB]


def test_addresses_and_handles_that_another_has_at_once_are_the_others(recorded: Any) -> None:
    found = recorded(
        AGAIN
        + VIRTUAL
        + """
def take(): cuda.cuMemCreate(byref(again), ctypes.c_size_t(8 * MIB), device, word(0))
def map_it(): cuda.cuMemMap(word(0x9000), ctypes.c_size_t(8 * MIB), word(0), again, word(0))
cuda.cuMemMap(word(0x9000), size, word(0), handle, word(0))
cuda.test_next(handle)
cuda.cuMemUnmap(word(0x9000), size)
at_once(lambda: (take(), map_it()))
cuda.cuMemRelease(handle)
assert again.value == handle.value
other = word()
cuda.cuMemCreate(byref(other), size, device, word(0))
at_once(lambda: cuda.cuMemMap(word(0x9000), size, word(0), other, word(0)))
cuda.cuMemUnmap(word(0x9000), ctypes.c_size_t(8 * MIB))
cuda.cuMemRelease(again)
cuda.cuMemUnmap(word(0x9000), size)
cuda.cuMemRelease(other)
"""
    )
    taken = allocations(found)
    assert [(record["kind"], record["bytes"] // MIB) for record in taken] == [
        (ALLOC, 6),
        (ALLOC, 8),
        (ALLOC, 6),
        (FREE, 0),
    ]
    assert {record["address"] for record in taken} == {0x9000}


def test_what_was_in_a_context_goes_with_it_and_the_rest_stays(recorded: Any) -> None:
    found = recorded(
        EVERY_KIND
        + """
many = [ask(2 * MIB) for _ in range(50)]
reset = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(("cuDevicePrimaryCtxReset_v2", cuda))
assert reset(0) == 0
assert cuda.cuMemFreeAsync(on_stream, stream) == 0
"""
    )
    taken = allocations(found)
    (ended,) = (
        place for place, record in enumerate(found) if record["flags"] & CONTEXT_ENDED and record["kind"] == MEASURE
    )
    frees = [record["address"] for record in found[:ended] if record["kind"] == FREE]
    addresses = [record["address"] for record in taken if record["kind"] == ALLOC]
    stays = addresses.pop(1)
    assert sorted(frees) == sorted(addresses)
    assert [(record["kind"], record["address"]) for record in found[ended + 1 :]] == [(FREE, stays)]


def test_what_is_measured_of_a_context_goes_with_it() -> None:
    made = row(1, MEASURE, 600, CONTEXT), row(2, MEASURE, 690, MODULES)
    assert settled(*made, row(3, MEASURE, 150, CONTEXT, CONTEXT_ENDED))[2:] == [
        (3, FREE, MODULES, 90),
        (3, FREE, CONTEXT, 500),
        (3, ALLOC, CONTEXT, 50),
    ]
    one_of_two = settled(*made, row(3, MEASURE, 390, CONTEXT, CONTEXT_ENDED))[2:]
    assert one_of_two == [(3, FREE, CONTEXT, 500), (3, ALLOC, CONTEXT, 200)]
