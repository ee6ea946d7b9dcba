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
        print(f"workbench: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        _report_memory(error)
        raise
    return 0


def _report_memory(error: Exception) -> None:
    """Where it was memory that ran out, keep what was alive by owner."""
    probe = current()
    is_device = type(error).__name__ == "OutOfMemoryError"
    is_host = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    if isinstance(probe, Recorder) and (is_device or is_host):
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        probe.failed(what, "gpu" if is_device else "pageable")


if __name__ == "__main__":
    sys.exit(main())
