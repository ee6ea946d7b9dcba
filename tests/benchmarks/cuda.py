"""What needs a CUDA device: python tests/benchmarks/cuda.py arms|generation|blocks STORE [MODEL]

arms        records the process-group arms of the H200's measurements, the bare ones and vLLM's, into STORE
generation  tokens/s of vLLM, plain and recorded in turn
blocks      nanoseconds of a torch block's allocation and free, plain, recorded, and with torch's own history
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

PROGRAMS = Path(__file__).parents[1] / "gpu" / "programs"
ROUNDS = 5


def run(command: list[str], recorded: list[str] | None = None, store: str = "") -> str:
    """Run a program, plain or recorded with these options; returns its last line of JSON."""
    options = ["-m", "workbench", "record", "--out", store, *(recorded or []), "--"] if recorded is not None else []
    whole = [sys.executable, *options, *([sys.executable] if options else []), *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{") and '"run"' not in line]
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        raise SystemExit(f"{' '.join(whole)} ended with {done.returncode}")
    return lines[-1] if lines else "{}"


def arms(store: str, model: str) -> None:
    """Record every arm."""
    for arm in ("context", "nccl-lazy", "nccl-eager", "gloo"):
        run([str(PROGRAMS / "process_group.py"), arm], ["--name", f"group-{arm}"], store)
        print("recorded", arm, flush=True)
    for arm in ("nccl-lazy", "gloo", "nccl-eager"):
        text = run([str(PROGRAMS / "vllm_generation.py"), arm, model], ["--name", f"vllm-{arm}"], store)
        print(text, flush=True)


def generation(store: str, model: str) -> None:
    """Compare tokens/s, process by process in turn."""
    ways: dict[str, list[str] | None] = {
        "plain": None,
        "recorded": [],
        "recorded without driver": ["--without", "driver"],
    }
    speeds: dict[str, list[int]] = {way: [] for way in ways}
    command = [str(PROGRAMS / "vllm_generation.py"), "nccl-lazy", model, str(ROUNDS)]
    for _ in range(2):
        for way, options in ways.items():
            document = json.loads(run(command, options, store))
            speeds[way] += document["tokens_per_s"]
            print(way, document["tokens_per_s"], flush=True)
    plain = median(speeds["plain"])
    for way, found in speeds.items():
        print(
            json.dumps({"way": way, "median": median(found), "of plain": round(median(found) / plain, 4)}), flush=True
        )


def blocks(store: str, _: str) -> None:
    """Compare what a block costs the thread that allocates it."""
    command = [str(PROGRAMS / "block_cost.py")]
    for way, options in (
        ("plain", None),
        ("recorded", []),
        ("recorded without stacks", ["--stacks", "none"]),
        ("plain again", None),
    ):
        print(way, run(command, options, store), flush=True)
    print("torch's history", run([*command, "--history"]), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    what = {"arms": arms, "generation": generation, "blocks": blocks}
    what[sys.argv[1]](sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
