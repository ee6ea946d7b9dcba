"""What needs a CUDA device: python tests/benchmarks/cuda.py arms|generation|steps|blocks STORE [MODEL [ROUNDS [WAY …]]]

arms        records the process-group arms of the H200's measurements, the bare ones and vLLM's, into STORE
generation  tokens/s of vLLM, plain and recorded in turn: ROUNDS of every WAY (all ways)
steps       the same within one process by its steps, which tells more: ROUNDS of every recorded WAY
blocks      nanoseconds of an allocation and its free, by torch and by hand, plain, recorded, with torch's history
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))  # behind an installed workbench

from tests.benchmarks.processes import OnDemand
from tests.benchmarks.rows import interval_of_medians

PROGRAMS = Path("tests/gpu/programs")  # from the project's folder, so that recorded runs name no other


def command_of(program: list[str], options: list[str] | None, store: str) -> list[str]:
    """The command that runs a program of ours, plain or recorded with these options."""
    plain = ["python3", str(PROGRAMS / program[0]), *program[1:]]
    return (
        plain if options is None else ["python3", "-m", "workbench", "record", "--out", store, *options, "--", *plain]
    )


def run(program: list[str], options: list[str] | None = None, store: str = "") -> str:
    """Run a program; returns the line of JSON that it says."""
    command = command_of(program, options, store)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return next((line for line in done.stdout.splitlines() if line.startswith("{") and '"run"' not in line), "{}")


def arms(store: str, model: str, *_: str) -> None:
    """Record every arm."""
    for arm in ("context", "nccl-lazy", "nccl-eager", "gloo"):
        run(["process_group.py", arm], ["--name", f"group-{arm}"], store)
        print("recorded", arm, flush=True)
    for arm in ("nccl-lazy", "gloo", "nccl-eager"):
        text = run(["vllm_generation.py", arm, model], ["--name", f"vllm-{arm}"], store)
        print(text, flush=True)


WAYS: dict[str, list[str] | None] = {"plain": None, "recorded": [], "without stacks": ["--stacks", "none"]}


def vllm_of(way: str, store: str, model: str) -> OnDemand:
    """A vLLM that generates on demand."""
    program = ["vllm_generation.py", "nccl-lazy", model, "--on-demand"]
    return OnDemand(command_of(program, WAYS[way], store), "{")


def steps(store: str, model: str, rounds: str = "60", *chosen: str) -> None:
    """Compare neighbouring windows of steps of one vLLM, recorded and not."""
    for way in chosen or [way for way, options in WAYS.items() if options is not None]:
        one = vllm_of(way, store, model)
        asked = [json.loads(one.ask("steps", "pairs")) for _ in range(int(rounds))]
        pairs = np.array([pair for answer in asked for pair in answer])
        one.end()
        lost = (pairs[:, 0] / pairs[:, 1] - 1) * 100
        low, high = interval_of_medians(lost)
        found = {"lost_percent": float(np.median(lost)), "interval_95": [low, high], "windows": len(lost)}
        print(json.dumps({"what": way, **found, "window_ms": float(np.median(pairs)) * 1000}), flush=True)


def generation(store: str, model: str, rounds: str = "60", *chosen: str) -> None:
    """Compare tokens/s of engines that live side by side and generate in turn, so that all see the same machine.

    Two processes of one kind differ by some percent, so the recorded ones also do rounds that are not recorded.
    """
    chosen = chosen or tuple(WAYS)
    engines = {way: vllm_of(way, store, model) for way in chosen}
    speeds: dict[tuple[str, str], list[float]] = {(way, order): [] for way in chosen for order in ("on", "off")}
    for number in range(int(rounds)):
        for way, one in engines.items():
            for order in ("on", "off") if number % 2 else ("off", "on"):
                speeds[way, order].append(float(one.ask(order, "tokens_per_s")))
    for one in engines.values():
        one.end()
    tell = {
        "recorded, of the same process not recorded": (("recorded", "on"), ("recorded", "off")),
        "without stacks, of the same process not recorded": (("without stacks", "on"), ("without stacks", "off")),
        "recorded, of a plain process": (("recorded", "on"), ("plain", "on")),
        "a plain process, of itself": (("plain", "on"), ("plain", "off")),
    }
    for what, (mine, other) in tell.items():
        if not {mine, other} <= speeds.keys():
            continue
        ratios = sorted(a / b for a, b in zip(speeds[mine], speeds[other], strict=True))
        quartiles = [round(ratios[len(ratios) * part // 4], 4) for part in (1, 2, 3)]
        print(json.dumps({"what": what, "tokens_per_s": median(speeds[mine]), "quartiles": quartiles}), flush=True)


def blocks(store: str, *_: str) -> None:
    """Compare what memory costs the thread that asks for it."""
    command = ["block_cost.py"]
    for way, options in (("plain", None), ("recorded", []), ("recorded without stacks", ["--stacks", "none"])):
        print(way, run(command, options, store), flush=True)
    print("torch's history", run([*command, "--history"]), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    what: dict[str, Callable[..., None]] = {"arms": arms, "generation": generation, "steps": steps, "blocks": blocks}
    what[sys.argv[1]](*(sys.argv[2:] if len(sys.argv) > 3 else [*sys.argv[2:], ""]))
