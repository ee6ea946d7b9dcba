"""What torch's CUDA allocator asked for, and on which stream, of each block: compiled once for each version of torch.

torch's hook that costs nothing tells only the bytes a block took. The rest needs a tracker in C++ against torch's own
headers, so it needs a compiler; without one a recording is as complete, with `asked` equal to `bytes`.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.resources
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from workbench.recorder import native
from workbench.recorder.cache import BETTER, cache
from workbench.recorder.sources import Unavailable

COMPILE_WITHIN_S = 120
WHAT = "requested sizes and streams of torch's GPU blocks"


class TorchTracker:
    """Passes torch's requested sizes and streams on, from CUDA's first use until `stop`."""

    def __init__(self, torch: Any) -> None:
        """Compile for this torch if need be."""
        try:
            self._tracker = ctypes.CDLL(str(compiled(torch)))
        except OSError as error:  # this is inside of a program's `import torch`, which goes on without
            raise Unavailable(f"{WHAT}: {error}") from None
        self._wanted = True
        torch.cuda._lazy_call(self._start)  # the allocators of the devices take trackers once they exist

    def _start(self) -> None:
        if self._wanted:
            self._tracker.wb_track(ctypes.cast(native.library().wb_torch_detail, ctypes.c_void_p))

    def stop(self) -> None:
        """Tell nothing any more."""
        self._wanted = False
        self._tracker.wb_track(None)


def compiled(torch: Any) -> Path:
    """The tracker's library for this torch, from the user's cache or compiled now."""
    source = importlib.resources.files("workbench.kernels") / "torch_tracker.cpp"
    text = source.read_bytes()
    key = hashlib.sha256(text + torch.__version__.encode() + torch.__file__.encode()).hexdigest()[:16]
    library = _cache() / f"torch_tracker-{key}.so"
    if not library.exists():
        _compile(text, torch, library)
    return library


def _cache() -> Path:
    try:
        return cache()
    except OSError as error:
        raise Unavailable(f"{WHAT}: {error}: {BETTER}") from None


def _compile(text: bytes, torch: Any, library: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise Unavailable(f"{WHAT} need a C++ compiler: install g++")
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        source, made = Path(folder, "torch_tracker.cpp"), Path(folder, "torch_tracker.so")
        source.write_bytes(text)
        flags = ["-std=c++20", "-O2", "-fPIC", "-shared", "-w", *(f"-I{path}" for path in _headers(torch))]
        libraries = [f"-L{Path(torch.__file__).parent / 'lib'}", "-lc10_cuda", "-lc10"]
        command = [compiler, *flags, str(source), "-o", str(made), *libraries]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, timeout=COMPILE_WITHIN_S, env=_without_recording()
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{WHAT}: {compiler} took more than {COMPILE_WITHIN_S} s") from None
        if run.returncode:
            reason = next((line for line in run.stderr.splitlines() if "error" in line), "no reason given")
            raise Unavailable(f"{WHAT}: {compiler} failed: {reason}")
        made.replace(library)  # at once, so that processes that start together all find a whole file


def _without_recording() -> dict[str, str]:
    """The environment of what is no part of the recorded program."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WORKBENCH_")}


def _headers(torch: Any) -> list[Path]:
    """Folders of torch's and CUDA's headers; CUDA's lie in its toolkit or beside torch, in NVIDIA's packages."""
    package = Path(torch.__file__).parent
    folders = [package / "include"]
    folders += [Path(home, "include") for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    folders += sorted((package.parent / "nvidia").glob("*/include"))
    return [folder for folder in folders if folder.is_dir()]
