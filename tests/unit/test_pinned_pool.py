"""torch's own pool of page-locked memory, which its headers hold, under what the arm that does not round tells it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workbench.mechanisms.host_alloc import PinnedPoolExact

SOURCE = Path(__file__).parent / "native_programs" / "pinned_pool.cpp"
PROGRAM = """
import ctypes, json, sys, torch
from workbench.mechanisms.host_alloc import PinnedPool, PinnedPoolExact

pool = ctypes.CDLL(sys.argv[1])
pool.pool_have.restype = pool.pool_size.restype = pool.max_split_size.restype = ctypes.c_size_t
torch._C._host_emptyCache = pool.pool_empty
PinnedPool._pinned = lambda arm, mib: ctypes.c_void_p(pool.pool_have(ctypes.c_size_t(mib << 20)))
had = []

def used(block):
    had.append(pool.pool_size(block) >> 20)
    pool.pool_copy(block)
    pool.pool_free(block)

in_use = PinnedPool().tensor(65)
used(PinnedPool().tensor(65))
for mib in (65, 66, 120):
    used(PinnedPoolExact().tensor(mib))
used(in_use)
used(PinnedPoolExact().tensor(65))
print(json.dumps([had, pool.max_split_size() >> 20]))
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    if reason := PinnedPoolExact().why_not(1):
        pytest.skip(reason)
    package, made = Path(torch.__file__).parent, tmp_path_factory.mktemp("pool") / "pool.so"
    flags = ["-std=c++20", "-fPIC", "-shared", "-w", f"-I{package / 'include'}", f"-L{package / 'lib'}", "-lc10"]
    subprocess.run([compiler, str(SOURCE), "-o", str(made), *flags], check=True)
    return made


def test_every_size_is_had_exactly_and_what_torch_was_told_before_holds(pool: Path) -> None:
    env = os.environ | {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(pool)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[128, 65, 66, 120, 128, 65], 64]  # what was in use at the switch is kept no more
