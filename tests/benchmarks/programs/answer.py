"""An engine that answers what the study of process groups asks, and nothing beside it: answer.py CONFIG, as JSON.

Says in JSON how long each phase took.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict, deque
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
    """Keeps the seconds of every phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begun


if __name__ == "__main__":
    config = EngineConfig.from_dict(json.loads(sys.argv[1]))
    running: Any = engine(config.engine)()
    watch = Watch()
    with mock.patch.object(recorder, "_current", watch), closing(running):  # vLLM's worker asks for it there
        running.load(config, watch)
        deque(running.generate(WORKLOAD, stream=False), maxlen=0)
    print(json.dumps(watch.seconds))
