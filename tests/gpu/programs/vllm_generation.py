"""A generation by vLLM in one process: python vllm_generation.py ARM MODEL [--on-demand]

ARM is a process group of one: nccl-lazy (vLLM's own), nccl-eager (initialised beforehand with a device) or gloo.
Prints a JSON object: tokens/s of a round of 64 prompts x 128 tokens, and the first text. On demand it goes on with a
round, and its tokens/s, for each line of its input; where the line is `off`, the round is not recorded; where it is
`steps`, of neighbouring windows of steps one is not, as chance decides, and the seconds of each pair are said instead.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ARMS = ("nccl-lazy", "nccl-eager", "gloo")
PROMPTS = [f"Write a short story about the number {number}." for number in range(64)]
TOKENS = 128
WARM_UP = 12  # steps: those that read prompts, and as many before the first answer ends
WINDOW = 4  # steps: fewer would take what one costs the next one for the next one's


def connect_eagerly(folder: str) -> None:
    """What a driver does that gives NCCL its device: the default group connects now, and each later one at once."""
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(0)
    store = f"file://{Path(folder, 'store')}"
    dist.init_process_group("nccl", init_method=store, rank=0, world_size=1, device_id=torch.device("cuda:0"))


def steps_in_turn(engine: Any, sampling: Any, switch: Any) -> list[list[float]]:
    """The seconds of windows of steps, recorded and not, of one round."""
    for number, prompt in enumerate(PROMPTS):
        engine.add_request(str(number), prompt, sampling)
    for _ in range(WARM_UP):
        engine.step()
    pairs = []
    for _ in range((TOKENS - 2 * WARM_UP) // (2 * WINDOW)):
        seconds = {}
        for on in random.sample((True, False), 2):
            switch.set(on)
            start = time.perf_counter()
            for _ in range(WINDOW):
                engine.step()
            seconds[on] = time.perf_counter() - start
        pairs.append([seconds[True], seconds[False]])
    switch.set(True)
    while engine.has_unfinished_requests():
        engine.step()
    return pairs


def main(arm: str, model: str, on_demand: bool) -> None:
    """Load, generate, and say how fast."""
    sys.path.insert(0, str(Path(__file__).parent))  # where vLLM finds the worker
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "PROCESS_GROUP": arm}
    from switch import Switch  # type: ignore[import-not-found]

    import workbench

    with tempfile.TemporaryDirectory() as folder:
        if arm == "nccl-eager":
            with workbench.phase("process_group"):
                connect_eagerly(folder)
        from vllm import LLM, SamplingParams
        from vllm.sampling_params import RequestOutputKind

        with workbench.phase("start"):
            engine = LLM(
                model=model,
                dtype="bfloat16",
                max_model_len=1024,
                gpu_memory_utilization=0.05,
                worker_cls="recorded_worker.RecordedWorker",
            )
        whole = RequestOutputKind.FINAL_ONLY
        sampling = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True, output_kind=whole)

        def round_of_prompts() -> float:
            start = time.perf_counter()
            texts.append(engine.generate(PROMPTS, sampling, use_tqdm=False)[0].outputs[0].text)
            return len(PROMPTS) * TOKENS / (time.perf_counter() - start)

        texts: list[str] = []
        round_of_prompts()
        with workbench.phase("generate"):
            speed = round_of_prompts()
        print(json.dumps({"arm": arm, "tokens_per_s": round(speed), "text": texts[-1]}), flush=True)
        if on_demand:
            switch = Switch.of_this_process()
            for line in sys.stdin:
                if line.strip() == "steps":
                    print("pairs", json.dumps(steps_in_turn(engine.llm_engine, sampling, switch)), flush=True)
                    continue
                if switch is not None:
                    switch.set(line.strip() != "off")
                print("tokens_per_s", round(round_of_prompts()), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ARMS:
        sys.exit(f"usage: vllm_generation.py {'|'.join(ARMS)} MODEL [--on-demand]")
    main(sys.argv[1], sys.argv[2], "--on-demand" in sys.argv)
