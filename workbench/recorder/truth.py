"""What the driver and the kernel say is in use: the truth that a ledger is held to."""

from __future__ import annotations

import os
from typing import Any

from workbench.errors import RunError

PAGE = os.sysconf("SC_PAGE_SIZE")


class Devices:
    """The used memory of every GPU, by NVML; none where there is no NVIDIA driver, or one that does not tell."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            self._nvml = pynvml
            self.used()
        except (pynvml.NVMLError, RunError):  # RunError: of a part of a GPU, or a GPU that shares the host's memory
            self._handles = []

    def used(self) -> list[int]:
        """Bytes in use on each device, by whomever."""
        try:
            return [int(self._nvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in self._handles]
        except self._nvml.NVMLError as error:
            raise RunError(f"NVML does not say what GPUs use: {error}") from None

    def describe(self) -> list[dict[str, Any]]:
        """Name, memory and driver of each device, for the manifest."""
        return [
            {
                "name": self._nvml.nvmlDeviceGetName(handle),
                "total_bytes": int(self._nvml.nvmlDeviceGetMemoryInfo(handle).total),
                "driver": self._nvml.nvmlSystemGetDriverVersion(),
            }
            for handle in self._handles
        ]


def resident_bytes(pid: int) -> int | None:
    """Bytes of a process in memory, shared ones included; None once it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return None
