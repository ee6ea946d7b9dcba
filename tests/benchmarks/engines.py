"""Tokens a second of the reference engine, of vLLM through the workbench, and of vLLM alone: side by side, in turn.

On a CUDA host, without the rest: python3 tests/benchmarks/engines.py [MODEL …]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from tests.benchmarks.processes import program
from tests.benchmarks.rows import Row, least_to_most, show

ENGINES = ("reference", "vllm", "plain-vllm")
CPU = ("cpu", 16, "64MiB", [(1, 64), (16, 64)], 7)
CUDA = ("cuda", 256, "4GiB", [(64, 128), (256, 128)], 9)  # sequences, budget, loads, rounds


class Engine:
    """A process that generates on demand."""

    def __init__(self, *arguments: object) -> None:
        quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_USE_FLASHINFER_SAMPLER": "0"}
        command = program("speed.py", *arguments)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | quiet
        )
        self._say("ready")

    def tokens_per_s(self, requests: int, tokens: int) -> float:
        """Of one round."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{requests} {tokens}\n")
        self._process.stdin.flush()
        return float(self._say("tokens_per_s").split()[1])

    def _say(self, beginning: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(beginning):
                return line
        raise SystemExit("an engine ended before its time: see its messages above")

    def end(self) -> None:
        """No more rounds."""
        self._process.communicate()


def measure(folder: Path, quick: bool, models: tuple[str, ...] = ("smollm2",)) -> list[Row]:
    """The rows of every model and load."""
    import torch

    where, sequences, budget, loads, rounds = CUDA if torch.cuda.is_available() else CPU
    rows: list[Row] = []
    for model in models:
        engines = {name: Engine(name, model, sequences, budget) for name in ENGINES}
        for requests, tokens in loads:
            what = f"{model}, {where}, {requests} x {tokens}"
            rows += _compared(what, engines, requests, tokens, 2 if quick else rounds)
        for engine in engines.values():
            engine.end()
    return rows


def _compared(what: str, engines: dict[str, Engine], requests: int, tokens: int, rounds: int) -> list[Row]:
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine.tokens_per_s(requests, tokens)  # warm
    for _ in range(rounds):
        for name, engine in engines.items():
            speeds[name].append(engine.tokens_per_s(requests, tokens))
    rows = [
        Row(f"{name}, {what}", median(some), "tokens/s", None, least_to_most(some)) for name, some in speeds.items()
    ]
    plain = speeds["plain-vllm"]
    slower = [alone / own for alone, own in zip(plain, speeds["reference"], strict=True)]
    lost = [(1 - through / alone) * 100 for through, alone in zip(speeds["vllm"], plain, strict=True)]
    return [
        *rows,
        Row(f"vLLM's tokens/s of the reference engine's, {what}", median(slower), "", 1.0, least_to_most(slower)),
        Row(f"lost by the wrapper, {what}", median(lost), "%", 1.0, least_to_most(lost)),
    ]


if __name__ == "__main__":
    for each in sys.argv[1:] or ["smollm2"]:
        show(measure(Path(), False, (each,)))
