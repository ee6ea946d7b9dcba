"""An engine that generates on demand: speed.py ENGINE MODEL SEQUENCES KV_BUDGET [AXIS=VALUE …]

ENGINE is reference, vllm (through the workbench) or plain-vllm (vLLM's own LLM.generate). For every line of stdin,
`REQUESTS TOKENS`, it answers so many requests with so many tokens each, and says how many tokens a second that were.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from workbench.config import EngineConfig, Workload
from workbench.config.models import resolve

LENGTH = 1024  # of a prompt and its answer, at most


def config_of(model: str, sequences: int, budget: str, settings: list[str]) -> EngineConfig:
    """What every engine runs under."""
    config = EngineConfig(model=model).with_setting("limits.max_sequences", str(sequences))
    config = config.with_setting("limits.max_length", str(LENGTH)).with_setting("limits.kv_budget", budget)
    for setting in settings:
        name, _, value = setting.partition("=")
        config = config.with_setting(name, value)
    return config


def prompts_of(requests: int) -> tuple[str, ...]:
    """Prompts that have little in common, so that no cache answers."""
    return tuple(f"{index} is the number of stars that I counted tonight, because" for index in range(requests))


def workbench_engine(name: str, config: EngineConfig) -> Callable[[int, int], int]:
    """One of the workbench's, driven as a session drives it."""
    from workbench.engines import engine
    from workbench.record.recorder import current

    running = engine(name)()
    running.load(config, current())

    def generate(requests: int, tokens: int) -> int:
        asked = Workload(prompts_of(requests), max_tokens=tokens, stop_at_end=False)
        return sum(map(len, running.generate(asked, stream=False)))

    return generate


def plain_vllm(config: EngineConfig) -> Callable[[int, int], int]:
    """vLLM as its users call it."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams

    from workbench.engines.reference.weights import has_weights

    folder = resolve(config.model)
    assert config.limits.kv_budget is not None
    known = {} if has_weights(folder) else {"load_format": "dummy", "skip_tokenizer_init": True}
    llm = LLM(
        model=str(folder),
        max_model_len=LENGTH,
        max_num_seqs=config.limits.max_sequences,
        kv_cache_memory_bytes=int(config.limits.kv_budget.amount),
        gpu_memory_utilization=0.2,  # asked of what is free before it starts; the others are there too
        enforce_eager=config.graphs.name == "none",
        disable_log_stats=True,
        **known,
    )

    def generate(requests: int, tokens: int) -> int:
        texts = prompts_of(requests)
        asked = [{"prompt_token_ids": list(text.encode())} for text in texts] if known else list(texts)
        rules = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=not known)
        answers = llm.generate(asked, rules, use_tqdm=False)
        return sum(len(answer.outputs[0].token_ids) for answer in answers)

    return generate


def main(name: str, model: str, sequences: str, budget: str, *settings: str) -> None:
    """Load, say `ready`, generate on demand."""
    config = config_of(model, int(sequences), budget, list(settings))
    generate = plain_vllm(config) if name == "plain-vllm" else workbench_engine(name, config)
    print("ready", flush=True)
    for line in sys.stdin:
        requests, tokens = map(int, line.split())
        start = time.perf_counter()
        count = generate(requests, tokens)
        print(f"tokens_per_s {count / (time.perf_counter() - start):.1f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
