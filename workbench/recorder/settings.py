"""How a recording records: the few choices there are, and how they reach the processes of the recorded program."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import UsageError, nearest
from workbench.kernels import library_path
from workbench.recorder.cache import without

SPOOL = "spool"  # the folder of the rings, in the folder of the run
FOLLOWED = "followed"  # a file in it that whoever follows the run touches
STACKS = ("none", "large", "all")
DEFAULT_THRESHOLD = 64 << 10  # bytes
BLOCKS = ("large", "all")
SOURCES = ("host", "driver", "torch")
SITE = Path(__file__).parent / "site"


@dataclass(frozen=True)
class Settings:
    """What is recorded of the host's memory, and of which allocations the Python stack is kept."""

    threshold: int = DEFAULT_THRESHOLD  # bytes; smaller host requests are not recorded, the ledger has them as one sum
    stacks: str = "large"  # of host requests from the threshold on and of all GPU blocks; or none, or all

    blocks: str = "large"  # torch's CPU blocks: from the threshold on, or all; its GPU blocks are always all recorded

    without: tuple[str, ...] = ()  # sources that are left out

    copies: bool = False  # also when each copy ran on the device, for which CUPTI slows the program down

    def __post_init__(self) -> None:
        for source in self.without:
            if source not in SOURCES:
                raise UsageError(f"there is no source {source!r} to leave out: {nearest(source, SOURCES)}")
        if self.blocks not in BLOCKS:
            raise UsageError(f"blocks can not be {self.blocks!r}: {nearest(self.blocks, BLOCKS)}")
        if self.stacks not in STACKS:
            raise UsageError(f"stacks can not be {self.stacks!r}: {nearest(self.stacks, STACKS)}")
        if not isinstance(self.threshold, int):
            raise UsageError(f"a threshold can not be {self.threshold!r}: give bytes, such as 65536")
        if self.threshold < 1024:
            raise UsageError(f"a threshold of {self.threshold} bytes would record every request; use 1KiB or more")

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings with which this process was started to be recorded."""
        known = os.environ
        without = tuple(known["WORKBENCH_WITHOUT"].split())
        return cls(
            int(known["WORKBENCH_THRESHOLD"]),
            known["WORKBENCH_STACKS"],
            known["WORKBENCH_BLOCKS"],
            without,
            copies=bool(known["WORKBENCH_COPIES"]),
        )

    @property
    def block_minimum(self) -> int:
        """Bytes from which on torch's CPU blocks are recorded."""
        return 1 if self.blocks == "all" else self.threshold

    def environment(self, folder: Path) -> dict[str, str]:
        """The environment in which a program, and all that it starts, is recorded into the run in `folder`."""
        folder = folder.resolve()  # the program may start others from another folder
        return {
            "WORKBENCH_RUN": str(folder),
            "WORKBENCH_SPOOL": str(folder / SPOOL),
            "WORKBENCH_THRESHOLD": str(self.threshold),
            "WORKBENCH_STACKS": self.stacks,
            "WORKBENCH_BLOCKS": self.blocks,
            "WORKBENCH_WITHOUT": " ".join(self.without),
            "WORKBENCH_COPIES": "1" if self.copies else "",
            "WORKBENCH_TORCH_MIN": str(self.block_minimum),
            "PYTHONPATH": _before(str(without(os.pathsep, SITE)), "PYTHONPATH"),
            "LD_PRELOAD": _before(str(_preloaded(library_path())), "LD_PRELOAD"),
        }


def _preloaded(library: Path) -> Path:
    return without(": ", library.parent) / library.name


def _before(first: str, variable: str) -> str:
    """The value of a path-like variable with `first` put before it."""
    return ":".join(part for part in (first, os.environ.get(variable)) if part)
