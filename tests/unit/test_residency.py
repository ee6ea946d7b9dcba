"""Who holds the pages of a process, against a process that says which pages it touched."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from workbench.recorder import residency
from workbench.recorder.native import ALLOC, HOST
from workbench.recorder.residency import PAGE, held_by, unclaimed
from workbench.recorder.rows import ROW, Rows

PROGRAM = textwrap.dedent("""
    import ctypes, json, mmap, sys, tempfile
    PAGE = mmap.PAGESIZE
    libc = ctypes.CDLL(None)

    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
    libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t

    def mapped(pages, touched, file=-1):
        flags = mmap.MAP_PRIVATE | (mmap.MAP_ANONYMOUS if file < 0 else 0)
        apart = libc.mmap(None, (pages + 2) * PAGE, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        libc.munmap(apart, (pages + 2) * PAGE)  # so that no neighbour is mapped
        address = libc.mmap(apart + PAGE, pages * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, flags | 0x10, file, 0)
        for page in touched:
            ctypes.memset(address + page * PAGE, 1, 1)
        return address

    file = tempfile.NamedTemporaryFile(suffix=".weights")
    file.truncate(10 * PAGE)
    told = {
        "sparse": mapped(1000, range(0, 1000, 10)),
        "file": mapped(10, range(4), file.fileno()),
        "closed": mapped(8, range(8)),
        "many": [mapped(3, [1]) for _ in range(300)],
        "name": file.name,
    }
    libc.mprotect(ctypes.c_void_p(told["closed"]), ctypes.c_size_t(8 * PAGE), 0)
    print(json.dumps(told), flush=True)
    sys.stdin.read()
""")


@dataclass(frozen=True)
class Program:
    """The process, and where it has what."""

    pid: int
    sparse: int  # 1,000 pages, each tenth of them touched
    closed: int  # 8 pages, touched and then not to be used
    many: list[int]  # 3 pages, one touched
    file: int  # 10 pages, 4 of them written to
    name: str


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Program(process.pid, **json.loads(process.stdout.readline()))
        process.communicate("")


def allocations(*spans: tuple[int, int], layer: int = HOST) -> Rows:
    """Allocations of so many pages from an address on, each with an owner of its own from 1 on."""
    rows = np.zeros(len(spans), ROW)
    rows["kind"], rows["layer"] = ALLOC, layer
    rows["address"], rows["bytes"] = np.array(spans).T * [[1], [PAGE]]
    rows["owner"] = np.arange(len(spans)) + 1
    return rows


def pages(program: Program, *spans: tuple[int, int]) -> list[int]:
    """The pages that are given to each of some allocations."""
    held = held_by(program.pid, allocations(*spans), "below").numbered
    return [held.get((owner + 1, 0), 0) // PAGE for owner in range(len(spans))]


@pytest.mark.parametrize("at_once", [1, 64, 1 << 20])
@pytest.mark.parametrize("read", [16, 1 << 15])
def test_an_allocation_holds_the_pages_in_it_that_were_touched(
    program: Program, monkeypatch: pytest.MonkeyPatch, at_once: int, read: int
) -> None:
    monkeypatch.setattr(residency, "PAGES_AT_ONCE", at_once)
    monkeypatch.setattr(residency, "READ_AT_ONCE", read)
    assert pages(program, (program.sparse, 1000)) == [100]
    assert pages(program, (program.sparse, 11), (program.sparse + 500 * PAGE, 21)) == [2, 3]
    assert pages(program, *((address, 3) for address in program.many)) == [1] * len(program.many)


def test_where_one_lies_in_another_the_inner_one_has_its_pages(program: Program) -> None:
    assert pages(program, (program.sparse, 1000), (program.sparse + 500 * PAGE, 100)) == [50, 10]


def test_pages_of_a_file_are_the_files_and_of_no_allocation(program: Program) -> None:
    held = held_by(program.pid, allocations((program.file, 10)), "below")
    assert held.numbered == {}
    assert held.named[program.name.rpartition("/")[2], "file"] == 4 * PAGE


def test_what_can_be_neither_read_nor_written_holds_nothing(program: Program) -> None:
    assert pages(program, (program.closed, 8)) == [0]


def test_the_heap_has_what_no_allocation_in_it_claims(program: Program) -> None:
    heap = next(area for area in residency._areas(program.pid) if area.path == "[heap]")
    whole = held_by(program.pid, allocations(), "below").named["heap", "below"]
    half = (heap.end - heap.start) // PAGE // 2
    rows = allocations((heap.start, half))
    claimed = held_by(program.pid, rows, "below")
    assert 0 < claimed.numbered[1, 0] < whole
    assert claimed.numbered[1, 0] + claimed.named["heap", "below"] == whole


def test_unclaimed_is_what_nothing_but_an_allocation_explains(program: Program) -> None:
    spans = unclaimed(program.pid)
    assert any(start <= program.sparse < end for start, end in spans)
    assert not any(start <= program.file < end or start <= program.closed < end for start, end in spans)
