from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from workbench.kernels import library_path

from tests.simulated_device import COMPUTE, SimulatedDevice
from tests.unit.driven import BEGIN, READ

SOURCES = Path(__file__).parent / "cuda"


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the driver, the runtime and a library that uses them."""
    folder = tmp_path_factory.mktemp("cuda")
    build = ("gcc", "-shared", "-fPIC", "-O1", "-w", "-Wl,--no-as-needed", f"-L{folder}")
    for source, name, more in (
        ("driver.c", "libcuda.so.1", ()),
        ("driver.c", "libnvidia-ml.so.1", ()),
        ("runtime.c", "libcudart.so.99", ()),
        ("asker.c", "libasker.so", ("-l:libcudart.so.99",)),
    ):
        made = folder / name
        subprocess.run([*build, str(SOURCES / source), "-o", str(made), f"-Wl,-soname,{name}", *more], check=True)
    return folder


@pytest.fixture
def recorded(libraries: Path, tmp_path: Path) -> Any:
    """Run a program that is recorded; gives its driver records as dictionaries."""

    def run(program: str, preload: bool = True, **environment: str) -> list[dict[str, Any]]:
        spool = tmp_path / "spool"
        spool.mkdir()
        env = os.environ | {"LD_LIBRARY_PATH": str(libraries)} | environment
        if preload:
            env |= {"LD_PRELOAD": str(library_path()), "WORKBENCH_SPOOL": str(spool)}
        script = [sys.executable, "-c", READ, str(spool), BEGIN + program]
        done = subprocess.run(script, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        records: list[dict[str, Any]] = json.loads(done.stdout)
        return records

    return run


@pytest.fixture
def device() -> Iterator[SimulatedDevice]:
    """A device on which nothing may be left in the end."""
    made = SimulatedDevice()
    yield made
    assert set(made.queues) == {COMPUTE}
    assert not made.noticed
    assert not made.events
