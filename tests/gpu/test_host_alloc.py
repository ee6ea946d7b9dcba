"""Page-locked memory on a CUDA host: exact where it says so, one memory under two addresses, and nothing left."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workbench.compare.evidence import evidence
from workbench.engines.host import Host
from workbench.errors import MechanismError, UsageError
from workbench.launch.programs import record_program
from workbench.mechanisms import host_alloc
from workbench.mechanisms.free_memory import free_bytes
from workbench.mechanisms.host_alloc import allocate, allocate_mapped, device_view
from workbench.mechanisms.host_evidence import keeps, taken_by_size
from workbench.mechanisms.host_rounding import ARMS, PAGE, taken_bytes
from workbench.run.evidence import OBSERVED
from workbench.run.run import Run
from workbench.run.store import Store

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

MIB = 1 << 20
PINNED = [arm for arm in ARMS if arm != "pageable"]
EXACT = ["host-alloc", "host-register"]


@pytest.fixture(params=PINNED, scope="module")
def arm(request: pytest.FixtureRequest) -> str:
    """All tests of one arm, then those of the next: after pinned-pool-exact a process has no pinned-pool."""
    name = str(request.param)
    if reason := host_alloc.why_not(name, Host.here().gpus):
        pytest.skip(reason)
    return name


def test_both_sides_write_into_one_memory(arm: str) -> None:
    memory = allocate(arm, 4 * MIB + 5)
    device = device_view(memory.tensor)
    assert device.is_cuda
    memory.tensor.fill_(3)
    assert int(device.sum()) == 3 * (4 * MIB + 5)
    device.fill_(9)
    torch.cuda.synchronize()
    assert bool((memory.tensor == 9).all())
    device[5] = 1
    torch.cuda.synchronize()
    assert memory.tensor[:8].tolist() == [9, 9, 9, 9, 9, 1, 9, 9]


def test_memory_is_page_locked_for_torch_too(arm: str) -> None:
    assert allocate(arm, MIB).tensor.is_pinned()


def test_a_view_keeps_dtype_shape_and_steps(arm: str) -> None:
    host = allocate(arm, 2 * 6 * 8).tensor.view(torch.bfloat16).view(6, 8)
    host.copy_(torch.arange(48.0).view(6, 8))
    part = host[1:5:2, 2:].t()
    device = device_view(part)
    assert (device.dtype, device.shape, device.stride()) == (part.dtype, part.shape, part.stride())
    assert torch.equal(device.cpu(), part)
    device.zero_()
    torch.cuda.synchronize()
    assert int(part.float().abs().sum()) == 0
    assert float(host[0, 0]) == 0.0
    assert float(host[2, 3]) == 19.0  # beside the part


def test_a_view_keeps_its_memory(arm: str) -> None:
    memory = allocate(arm, MIB)
    memory.tensor.fill_(5)
    device = device_view(memory.tensor)
    memory.free()
    gc.collect()
    assert int(device.sum()) == 5 * MIB


READ_LATE = """
import torch
from workbench.mechanisms.host_alloc import allocate, device_view

def ones():
    host = allocate({arm!r}, 1 << 20).tensor.fill_(1)
    return [host, device_view(host)]

int(ones()[1].sum())  # loads the kernel, which would wait for what the GPU has to do
for first in (0, 1):
    both = ones()
    torch.cuda._sleep(1 << 30)  # half a second
    found = both[1].sum()
    del both[first], both[0]
    others = [allocate({arm!r}, 1 << 20).tensor.fill_(9) for _ in range(3)]
    assert int(found) == 1 << 20, (first, int(found))
"""


@pytest.mark.parametrize("pinned", PINNED)
def test_memory_that_a_kernel_has_yet_to_read_is_nobody_else_s(pinned: str) -> None:
    """In a process of its own: a kernel that finds its memory gone ends CUDA's context."""
    if reason := host_alloc.why_not(pinned, Host.here().gpus):
        pytest.skip(reason)
    program = [sys.executable, "-c", READ_LATE.format(arm=pinned)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_what_is_not_page_locked_has_no_view() -> None:
    for tensor in (torch.ones(100), allocate("pageable", MIB).tensor):
        with pytest.raises(UsageError, match="is not page-locked"):
            device_view(tensor)
    with pytest.raises(UsageError, match="is not on the host"):
        device_view(torch.ones(1, device="cuda"))
    assert torch.ones(1, device="cuda").item() == 1  # no error of CUDA is left behind


def test_nothing_has_an_empty_view(arm: str) -> None:
    memory = allocate(arm, 0)
    assert (memory.taken, device_view(memory.tensor).shape) == (0, torch.Size([0]))
    host, device = allocate_mapped(0)
    assert (len(host), len(device), device.is_cuda) == (0, 0, True)


def test_allocating_gives_both_sides() -> None:
    if reason := host_alloc.why_not("host-alloc", Host.here().gpus):
        pytest.skip(reason)
    host, device = allocate_mapped(1000)
    device.fill_(4)
    torch.cuda.synchronize()
    assert host.tolist() == [4] * 1000


def test_what_each_arm_takes_is_what_was_predicted(arm: str, tmp_path: Path) -> None:
    sizes = [1 * MIB, 65 * MIB, 257 * MIB + 12345]
    command = [sys.executable, "-m", "workbench.studies.pinned_program", arm, *map(str, sizes)]
    run = record_program(command, store=Store(tmp_path))
    [found] = evidence(run)
    assert found.verdict == OBSERVED, found
    for asked, taken in zip(sizes, taken_by_size(run), strict=True):
        assert abs(taken - taken_bytes(arm, asked)) < PAGE
        if arm in EXACT:
            assert 0 <= taken - asked <= PAGE
    assert keeps(run) == (arm == "pinned-pool")


OF_ONE_POWER = """
import torch
from workbench.mechanisms.host_alloc import allocate
allocate("pinned-pool", 65 << 20).free()
for mib in (65, 66, 120):
    memory = allocate("pinned-pool-exact", mib << 20)
    memory.tensor.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    memory.free()
settings = torch.cuda.memory._snapshot()["allocator_settings"]
assert settings["max_split_size"] == 64 << 20, settings
"""


def test_sizes_below_one_power_of_two_are_each_had_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, for which `pinned-pool-exact` is; what its allocator was told before holds too."""
    if reason := host_alloc.why_not("pinned-pool-exact", Host.here().gpus):
        pytest.skip(reason)
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")
    run, sizes = recorded_sizes(OF_ONE_POWER, tmp_path)
    assert run.manifest.status == "complete"
    assert list(sizes[sizes.abs() >= MIB] // MIB)[:7] == [128, -128, 65, -65, 66, -66, 120]


def test_more_than_there_is_is_refused_and_the_next_goes_well(arm: str) -> None:
    with pytest.raises(MechanismError, match="out of memory"):
        allocate(arm, free_bytes() + (1 << 30))
    assert allocate(arm, MIB).tensor.is_pinned()


def recorded_sizes(program: str, folder: Path) -> tuple[Run, Any]:
    """A program's run, and what was page-locked in it, in turn: more than nothing had, less given back."""
    (folder / "program.py").write_text(program)
    run = record_program([sys.executable, str(folder / "program.py")], store=Store(folder / "runs"))
    pinned = run.events()[lambda events: (events["tier"] == "pinned") & (events["layer"] == "driver")]
    return run, pinned["bytes"].where(pinned["kind"] == "alloc", -pinned["bytes"])


def locked_kib() -> int:
    """What of the machine is free: page-locked memory is in no counter of a process."""
    return free_bytes() // 1024


@pytest.mark.parametrize("exact", EXACT)
def test_a_thousand_rounds_leave_nothing(exact: str) -> None:
    if reason := host_alloc.why_not(exact, Host.here().gpus):
        pytest.skip(reason)
    maps = Path("/proc/self/maps")
    for _ in range(10):
        device_view(allocate(exact, MIB).tensor)
    gc.collect()
    regions, free = len(maps.read_text().splitlines()), locked_kib()
    for _ in range(1000):
        memory = allocate(exact, MIB)
        device_view(memory.tensor)
        memory.free()
    gc.collect()
    assert len(maps.read_text().splitlines()) <= regions + 10
    assert locked_kib() > free - 512 * 1024  # a thousand MiB would be gone


ROUNDS = """
import gc
from workbench.mechanisms.host_alloc import allocate, device_view
for _ in range(1000):
    memory = allocate({arm!r}, 1 << 20)
    device_view(memory.tensor)
    memory.free()
    del memory
gc.collect()
"""


@pytest.mark.parametrize("exact", EXACT)
def test_a_thousand_rounds_leave_nothing_in_the_ledger(exact: str, tmp_path: Path) -> None:
    if reason := host_alloc.why_not(exact, Host.here().gpus):
        pytest.skip(reason)
    run, sizes = recorded_sizes(ROUNDS.format(arm=exact), tmp_path)
    assert run.manifest.status == "complete"
    assert (sizes >= MIB).sum() == 1000
    assert sizes.cumsum().max() < 2 * MIB + PAGE  # one at a time
    assert sizes.sum() == 0
