"""Records the arms of the H200's measurements: arms.py STORE MODEL [two | graphs]

Bare process groups and vLLM with each; with `two`, on two GPUs, groups of two ranks, and vLLM with its tensors in two;
with `graphs`, both engines with each kind of graphs.
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


def on_graphs(store: str, model: str) -> None:
    """Record an answer of both engines with each kind of graphs."""
    for engine in ("reference", "vllm"):
        for graphs in ("none", "piecewise", "full"):
            asked = ("--engine", engine, "--model", model, "--prompt", "Tell me about apples", "--max-tokens", "32")
            limits = ("--set", "limits.kv_budget=1GiB", "--set", "limits.max_length=1024")
            record(store, f"graphs-{engine}-{graphs}", *asked, *limits, "--set", f"graphs={graphs}")


SETS = {"one": on_one, "two": on_two, "graphs": on_graphs}

if __name__ == "__main__":
    store, model, which = [*sys.argv[1:], "one"][:3] if len(sys.argv) in (3, 4) else ("", "", "")
    if which not in SETS:
        sys.exit("usage: arms.py STORE MODEL [two | graphs]")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    SETS[which](store, model)
