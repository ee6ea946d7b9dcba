"""An engine that answers what the study of process groups asks, and nothing beside it: answer.py CONFIG, as JSON."""

from __future__ import annotations

import json
import sys
from collections import deque
from contextlib import closing
from typing import Any

from workbench.config import EngineConfig
from workbench.engines import engine
from workbench.recorder.probe import NullProbe
from workbench.studies.process_group import WORKLOAD

if __name__ == "__main__":
    config = EngineConfig.from_dict(json.loads(sys.argv[1]))
    running: Any = engine(config.engine)()
    with closing(running):
        running.load(config, NullProbe())
        deque(running.generate(WORKLOAD, stream=False), maxlen=0)
