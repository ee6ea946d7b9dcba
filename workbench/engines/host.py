"""What this machine has that decides what an engine can do on it."""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """The devices of a machine, as far as engines ask for them."""

    gpus: int

    @classmethod
    @functools.cache
    def here(cls) -> Host:
        """Gives this machine; asks the driver's own library, so that no process gets a CUDA context by asking."""
        import pynvml

        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            try:
                return cls(int(pynvml.nvmlDeviceGetCount()))
            finally:
                pynvml.nvmlShutdown()
        return cls(0)
