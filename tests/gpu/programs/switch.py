"""Turns the recording of this process off and on again, so that neighbouring stretches see the same machine."""

from __future__ import annotations

import os

from workbench.recorder.native import library

NOTHING = (1 << 64) - 1


class Switch:
    """The recording of this process. It tells no scribe: what happens in between was simply not recorded."""

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold

    @classmethod
    def of_this_process(cls) -> Switch | None:
        """None where it is not recorded."""
        threshold = os.environ.get("WORKBENCH_THRESHOLD")
        return cls(int(threshold)) if threshold else None

    def set(self, on: bool) -> None:
        library().wb_record_from(self._threshold if on else NOTHING)
