"""Host memory: what each arm takes, what is refused, and that nothing is left where CUDA says no."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import MechanismError, UsageError
from workbench.mechanisms import free_memory, host_rounding, page_locking
from workbench.mechanisms.free_memory import free_bytes
from workbench.mechanisms.host_alloc import PinnedPool, PinnedPoolExact, allocate, device_view, why_not
from workbench.mechanisms.host_rounding import ARMS, PAGE, taken_bytes, why_not_locked
from workbench.units import LARGEST

MIB = 1 << 20
EXACT = [arm for arm in ARMS if arm != "pinned-pool"]


@pytest.mark.parametrize(("asked", "taken"), [(65, 128), (257, 512), (1025, 2048), (2500, 4096), (4097, 8192)])
def test_torch_s_pool_takes_what_was_measured(asked: int, taken: int) -> None:
    assert taken_bytes("pinned-pool", asked * MIB) == taken * MIB
    assert {taken_bytes(arm, asked * MIB) for arm in EXACT} == {asked * MIB}


@given(st.integers(1, LARGEST))
def test_rounding_is_up_and_to_what_it_should_be(asked: int) -> None:
    pool = taken_bytes("pinned-pool", asked)
    assert pool & (pool - 1) == 0
    assert pool == PAGE or pool // 2 < asked <= pool
    for arm in EXACT:
        assert 0 <= taken_bytes(arm, asked) - asked < PAGE
        assert taken_bytes(arm, asked) % PAGE == 0


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("asked", [-1, 2**63])
def test_what_is_no_size_is_refused(arm: str, asked: int) -> None:
    with pytest.raises(UsageError, match=f"{asked} bytes can not be had"):
        taken_bytes(arm, asked)
    with pytest.raises(UsageError, match=f"{asked} bytes can not be had"):
        allocate(arm, asked)


def test_unknown_arms_are_refused() -> None:
    for call in (taken_bytes, allocate):
        with pytest.raises(UsageError, match="did you mean 'pinned-pool'"):
            call("pinned-pol", 1)


def test_nothing_is_an_empty_view() -> None:
    memory = allocate("pageable", 0)
    assert (memory.asked, memory.taken, memory.tensor.shape) == (0, 0, torch.Size([0]))


def test_more_than_there_is_is_refused_before_it_is_taken() -> None:
    with pytest.raises(MechanismError, match=r"out of memory, this host has .* free"):
        allocate("pageable", LARGEST)
    with pytest.raises(MechanismError, match=r"by pinned-pool, which takes 1\.00 TiB: out of memory"):
        host_rounding.refuse_more_than_there_is("pinned-pool", (1 << 39) + 1)


def test_the_kernel_is_asked_what_is_free_once_a_moment_and_where_it_may_not_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def free() -> int:
        asked.append(1)
        return 100

    monkeypatch.setattr(free_memory, "free_bytes", free)
    lately = free_memory.Lately()
    assert [lately.has(30) for _ in range(3)] == [True, True, False], "a part that is as large must be left"
    assert len(asked) == 1
    monkeypatch.setattr(lately, "_until", 0.0)
    assert lately.has(30)
    assert len(asked) == 2


V2 = ("memory.max", "memory.current", "inactive_file", "0::/outer/inner\n", "")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "5:cpu,memory:/outer/inner\n", "memory")


@pytest.mark.parametrize(("limit", "used", "cache", "mine", "top"), [V2, V1])
@pytest.mark.parametrize("place", ["outer/inner", "outer", "."])
def test_a_group_s_limit_is_what_is_free(
    limit: str, used: str, cache: str, mine: str, top: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(free_memory, "CGROUP", tmp_path)
    monkeypatch.setattr(free_memory, "MINE", tmp_path / "mine")
    whole = free_bytes()
    (tmp_path / "mine").write_text(mine)
    folder = tmp_path / top / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit).write_text("max\n" if limit == "memory.max" else "9223372036854771712\n")
    (folder / used).write_text("3000\n")
    assert free_bytes() == pytest.approx(whole, rel=0.2)
    (folder / limit).write_text("5000\n")
    assert free_bytes() == 2000
    (folder / "memory.stat").write_text(f"anon 7\n{cache} 1500\n")
    assert free_bytes() == 3500
    (folder / used).write_text("9000\n")
    assert free_bytes() == 0


def mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * PAGE


def test_memory_lives_as_long_as_a_view_of_it() -> None:
    size = 64 * MIB
    before = mapped_bytes()
    memory = allocate("pageable", size)
    view = memory.tensor[10:20]
    view.fill_(7)
    memory.free()
    memory.free()
    with pytest.raises(UsageError, match="has been freed"):
        _ = memory.tensor
    assert view.tolist() == [7] * 10
    assert mapped_bytes() - before >= size
    del view
    assert mapped_bytes() - before < size


class Cuda:
    """What of the CUDA runtime is called: memory that is only counted, and calls that fail when told."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.locked: dict[int, int] = {}
        self.forgiven = 0
        self.kept: list[Any] = []

    cudaMemoryType = SimpleNamespace(cudaMemoryTypeHost=1)  # noqa: N815

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[int, int]:  # noqa: N802
        if self.fails == "cudaHostAlloc":
            return 2, 0
        memory = torch.zeros(size, dtype=torch.uint8)
        self.kept.append(memory)
        self.locked[memory.data_ptr()] = size
        return 0, memory.data_ptr()

    def cudaHostRegister(self, address: int, size: int, flags: int) -> tuple[int]:  # noqa: N802
        if self.fails == "cudaHostRegister":
            return (2,)
        assert address % PAGE == 0
        self.locked[address] = size
        return (0,)

    def cudaFreeHost(self, address: int) -> tuple[int]:  # noqa: N802
        if self.fails == "cudaFreeHost":
            return (2,)
        del self.locked[address]
        return (0,)

    def cudaHostUnregister(self, address: int) -> tuple[int]:  # noqa: N802
        assert is_mapped(address)
        if self.fails == "cudaHostUnregister":
            return (2,)
        del self.locked[address]
        return (0,)

    def cudaGetLastError(self) -> tuple[int]:  # noqa: N802
        self.forgiven += 1
        return (2,)

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, b"out of memory"

    def cudaPointerGetAttributes(self, address: int) -> tuple[int, Any]:  # noqa: N802
        here = any(start <= address < start + size for start, size in self.locked.items())
        return 0, SimpleNamespace(type=int(here), devicePointer=address)


def is_mapped(address: int) -> bool:
    spans = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(start, 16) <= address < int(end, 16) for start, end in spans)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    cuda = Cuda()
    monkeypatch.setattr(page_locking, "_runtime", lambda: cuda)
    return cuda


@pytest.mark.parametrize("have", [page_locking.allocated, page_locking.registered])
def test_page_locked_memory_is_given_back_with_its_last_view(have: Any, cuda: Cuda) -> None:
    tensor = torch.frombuffer(have(10_000), dtype=torch.uint8)
    view = tensor[5:]
    [size] = cuda.locked.values()
    assert size - 10_000 in range(PAGE)
    [address] = cuda.locked
    del tensor
    assert cuda.locked
    del view
    assert not cuda.locked
    assert have is page_locking.allocated or not is_mapped(address)


@pytest.mark.parametrize(
    ("call", "have"), [("cudaFreeHost", page_locking.allocated), ("cudaHostUnregister", page_locking.registered)]
)
def test_memory_that_can_not_be_given_back_is_told_of(call: str, have: Any, cuda: Cuda) -> None:
    buffer = have(10_000)
    cuda.fails = call
    with pytest.warns(RuntimeWarning, match=f"9.77 KiB of page-locked memory stay taken: {call} said out of memory"):
        del buffer
    assert cuda.forgiven == 1


@pytest.mark.parametrize("have", [page_locking.allocated, page_locking.registered])
def test_a_fork_gives_back_nothing_of_its_parent_s(have: Any, cuda: Cuda) -> None:
    buffer = have(10_000)
    if (child := os.fork()) == 0:
        del buffer
        os._exit(0 if cuda.locked else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cuda.locked
    memoryview(buffer).cast("B")[0] = 7  # still there
    del buffer
    assert not cuda.locked


@pytest.mark.parametrize(
    ("call", "have"), [("cudaHostAlloc", page_locking.allocated), ("cudaHostRegister", page_locking.registered)]
)
def test_a_call_that_fails_frees_what_was_mapped_and_says_why(call: str, have: Any, cuda: Cuda) -> None:
    cuda.fails = call
    gc.collect()
    before = mapped_bytes()
    with pytest.raises(
        MechanismError, match=rf"^64.00 MiB can not be page-locked: {call} said out of memory"
    ) as caught:
        have(64 * MIB)
    assert mapped_bytes() - before < 64 * MIB  # also while somebody holds the error
    del caught
    assert cuda.forgiven == 1


def test_the_gpu_s_address_is_refused_where_a_part_is_not_page_locked(cuda: Cuda) -> None:
    buffer = page_locking.registered(PAGE)
    [start] = cuda.locked
    assert page_locking.device_address(start, start + PAGE - 1) == start
    with pytest.raises(UsageError, match="is not page-locked"):
        page_locking.device_address(start, start + PAGE)
    del buffer


def test_why_memory_could_not_be_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (MIB, MIB))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "the locked-memory limit is 1.00 MiB: raise it with `ulimit -l`" in why_not_locked(2 * MIB, "no")
    assert why_not_locked(1000, "no") == "no"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (-1, -1))
    assert "out of memory: this host has" in why_not_locked(1 << 50, "no")


def test_the_unrounded_pool_needs_a_torch_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    assert "torch rounds in any case before 2.13, this is 2.11.0+cu130" in str(PinnedPoolExact().why_not(1))
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    assert PinnedPoolExact().why_not(1) is None


def test_a_pool_that_was_told_not_to_round_is_not_called_the_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PinnedPoolExact, "is_chosen", True)
    with pytest.raises(UsageError, match=r"^torch's pool rounds no more where pinned-pool-exact was used"):
        PinnedPool().tensor(1)


class Pool:
    """What of torch's pool is called; a setting that is not told again is set back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
        self.told = told
        self.calls: list[str] = []
        monkeypatch.setattr(torch._C, "_accelerator_getAllocatorSettings", lambda: self.told, raising=False)
        monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", self.tell, raising=False)
        monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: self.calls.append("emptied"), raising=False)
        monkeypatch.setattr(PinnedPool, "_pinned", lambda _, asked: self.have(asked))
        monkeypatch.setattr(PinnedPoolExact, "is_chosen", False)

    def tell(self, told: str) -> None:
        self.told = told
        self.calls.append("told")

    def have(self, asked: int) -> torch.Tensor:
        self.calls.append(f"had {asked}")
        return torch.empty(asked, dtype=torch.uint8)


@pytest.mark.parametrize("told", ["", "max_split_size_mb:64,roundup_power2_divisions:4", "max_split_size_mb:64, "])
def test_the_unrounded_pool_leaves_torch_s_other_settings(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(monkeypatch, told)
    for asked in (5, 6):
        assert len(PinnedPoolExact().tensor(asked)) == asked
    others = [one for one in told.split(",") if one.strip()]
    assert pool.told.split(",") == [*others, *PinnedPoolExact.setting.split(",")]
    assert pool.calls == ["told", "emptied", "had 5", "had 6"]


def test_without_cuda_s_bindings_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_locking, "_has_bindings", lambda: False)
    assert "pip install memory-workbench[cuda]" in str(why_not("host-alloc", 1))
    assert why_not("pageable", 0) is None
    assert {arm for arm in ARMS if why_not(arm, 0)} == set(ARMS) - {"pageable"}
    with pytest.raises(UsageError, match=r"memory-workbench\[cuda\]"):
        page_locking.allocated(1)


def test_a_tensor_of_the_gpu_has_no_view_for_it() -> None:
    with pytest.raises(UsageError, match="on meta is not on the host"):
        device_view(torch.empty(3, device="meta"))


def test_a_view_is_told_to_torch_s_pool_as_a_copy_is(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    def viewed(memory: Any, device: torch.device) -> torch.Tensor:
        [size], (address, _) = (memory.__cuda_array_interface__[key] for key in ("shape", "data"))
        return torch.frombuffer((ctypes.c_ubyte * size).from_address(address), dtype=torch.uint8)

    copied: list[tuple[int, int, torch.device, bool]] = []

    def copy(tensor: torch.Tensor, device: torch.device, non_blocking: bool) -> None:
        copied.append((tensor.data_ptr(), tensor.numel(), device, non_blocking))

    monkeypatch.setattr(page_locking, "_has_bindings", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch, "as_tensor", viewed)
    monkeypatch.setattr(torch.Tensor, "to", copy)
    host = torch.frombuffer(page_locking.registered(96), dtype=torch.bfloat16).view(6, 8)[1:5:2, 2:]
    device = device_view(host)
    assert (device.data_ptr(), device.stride()) == (host.data_ptr(), host.stride())
    assert copied == [(host.data_ptr(), 1, torch.device("cuda", 0), True)]


def test_a_thousand_rounds_leave_nothing(cuda: Cuda) -> None:
    for _ in range(1000):
        allocate("pageable", MIB).free()
    before = mapped_bytes()
    for _ in range(1000):
        allocate("pageable", MIB).free()
        page_locking.registered(MIB)
    assert mapped_bytes() - before < 2 * MIB
    assert not cuda.locked
