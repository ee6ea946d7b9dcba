"""A generation by the real small model: python generate.py TOKENS ENGINE

Prints tokens/s of the decoding, the loading and the prompt left out.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import chain

from workbench.config import EngineConfig, Workload
from workbench.engines import engine
from workbench.recorder.recorder import current


def main(tokens: int, name: str) -> None:
    """Generate, recorded or not: the probe is the one of this process."""
    running = engine(name)()
    running.load(EngineConfig(engine=name).with_setting("graphs", "none"), current())
    workload = Workload(prompts=("Count the stars.",), max_tokens=tokens, stop_at_end=False)
    stream = chain.from_iterable(running.generate(workload))
    next(stream)
    start = time.perf_counter()
    count = sum(1 for _ in stream)
    print(json.dumps({"tokens_per_s": count / (time.perf_counter() - start)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
