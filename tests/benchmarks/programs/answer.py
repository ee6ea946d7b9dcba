"""An engine that answers a workload, and nothing beside it: answer.py CONFIG WORKLOAD, as JSON.

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

from workbench.config import EngineConfig, Workload
from workbench.engines import engine
from workbench.recorder import recorder
from workbench.recorder.probe import NullProbe


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
    config, workload = EngineConfig.from_dict(json.loads(sys.argv[1])), Workload.from_dict(json.loads(sys.argv[2]))
    running: Any = engine(config.engine)()
    recorder._current = watch = Watch()  # type: ignore[assignment]  # vLLM's worker asks for it there
    with closing(running):
        running.load(config, watch)
        deque(running.generate(workload, stream=False), maxlen=0)
    print(json.dumps(watch.phases))
