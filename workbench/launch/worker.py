"""The child's side: loads the engine that the run's manifest names and runs its workload.

`python -m workbench.launch.worker FOLDER`, started by `session` in an environment that records it.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from contextlib import closing
from pathlib import Path

from workbench.config import EngineConfig, Workload
from workbench.engines import engine
from workbench.errors import WorkbenchError
from workbench.record.recorder import Recorder, current
from workbench.record.wire import FAILURE
from workbench.run.manifest import Manifest

PR_SET_PDEATHSIG = 1


def work(folder: Path) -> None:
    """Run the workload of the run in `folder`; the texts go into its manifest."""
    manifest = Manifest.read(folder)
    config, workload = EngineConfig.from_dict(manifest.config or {}), Workload.from_dict(manifest.workload or {})
    probe = current()
    texts = [""] * len(workload.prompts)
    with closing(engine(config.engine)()) as running:
        running.load(config, probe)
        for token in running.generate(workload):
            texts[token.request] += token.text
    if isinstance(probe, Recorder):
        probe.note("outputs", texts)


def main() -> int:
    """Work, and say in one line what went wrong."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # no engine outlives the session that asked for it
    try:
        work(Path(sys.argv[1]))
    except WorkbenchError as error:
        _say(str(error))
        return error.exit_code
    return 0


def _say(error: str) -> None:
    """Tell the session why, through the run."""
    probe = current()
    if isinstance(probe, Recorder):
        probe.note(FAILURE, error)
    else:
        print(f"workbench: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
