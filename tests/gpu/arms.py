"""Records the arms of the H200's measurements, bare process groups and vLLM with each: arms.py STORE MODEL [two]

With `two`, on two GPUs: groups of two ranks, and vLLM with its tensors in two.
"""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAMS = "tests/gpu/programs"  # from the project's folder, so that recorded runs name no other


def record(store: str, name: str, *what: str) -> None:
    """Record something under a name."""
    subprocess.run(["python3", "-m", "workbench", "record", "--out", store, "--name", name, *what], check=True)


def program(name: str, *arguments: str) -> tuple[str, ...]:
    """What records one of our programs."""
    return "--", "python3", f"{PROGRAMS}/{name}", *arguments


def on_one(store: str, model: str) -> None:
    """Record every arm of a group of one."""
    for arm in ("context", "nccl-lazy", "nccl-eager", "gloo"):
        record(store, f"group-{arm}", *program("process_group.py", arm))
    for arm in ("nccl-lazy", "gloo", "nccl-eager"):
        record(store, f"vllm-{arm}", *program("vllm_generation.py", arm, model))


def on_two(store: str, model: str) -> None:
    """Record every arm of a group of two."""
    for arm in ("nccl-lazy", "nccl-eager", "gloo"):
        record(store, f"group-of-two-{arm}", *program("ranks.py", arm, "2"))
    asked = ("--engine", "vllm", "--model", model, "--prompt", "Tell me about apples", "--max-tokens", "16")
    limits = ("--set", "limits.kv_budget=1GiB", "--set", "limits.max_length=1024", "--set", "parallel.tensor=2")
    for arm in ("nccl-lazy", "nccl-eager"):
        record(store, f"vllm-tensor-2-{arm}", *asked, *limits, "--set", f"process_group={arm}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[3:] not in ([], ["two"]):
        sys.exit("usage: arms.py STORE MODEL [two]")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    (on_two if sys.argv[3:] else on_one)(*sys.argv[1:3])
