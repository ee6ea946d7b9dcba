"""An engine that answers what the study of process groups asks, and nothing beside it: answer.py CONFIG, as JSON.

Says in JSON when each phase began and ended, on the clock of runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from unittest import mock

from workbench.config import EngineConfig
from workbench.engines import engine
from workbench.recorder import recorder
from workbench.recorder.probe import NullProbe
from workbench.studies.process_group import WORKLOAD


class Watch(NullProbe):
    """Keeps when every phase began and ended."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, float, float]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.phases.append((name, begun, time.monotonic()))


if __name__ == "__main__":
    config = EngineConfig.from_dict(json.loads(sys.argv[1]))
    running: Any = engine(config.engine)()
    watch = Watch()
    with mock.patch.object(recorder, "_current", watch), closing(running):  # vLLM's worker asks for it there
        running.load(config, watch)
        deque(running.generate(WORKLOAD, stream=False), maxlen=0)
    print(json.dumps(watch.phases))
