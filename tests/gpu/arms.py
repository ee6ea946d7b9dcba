"""Records the arms of the H200's measurements, bare process groups and vLLM with each: arms.py STORE MODEL"""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAMS = "tests/gpu/programs"  # from the project's folder, so that recorded runs name no other


def record(store: str, name: str, program: str, *arguments: str) -> None:
    """Record one of our programs under a name."""
    command = ["python3", "-m", "workbench", "record", "--out", store, "--name", name, "--"]
    subprocess.run([*command, "python3", f"{PROGRAMS}/{program}", *arguments], check=True)


def main(store: str, model: str) -> None:
    """Record every arm."""
    for arm in ("context", "nccl-lazy", "nccl-eager", "gloo"):
        record(store, f"group-{arm}", "process_group.py", arm)
    for arm in ("nccl-lazy", "gloo", "nccl-eager"):
        record(store, f"vllm-{arm}", "vllm_generation.py", arm, model)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: arms.py STORE MODEL")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    main(*sys.argv[1:])
