"""An engine that generates on demand: speed.py ENGINE MODEL SEQUENCES KV_BUDGET [AXIS=VALUE …]

ENGINE is reference or vllm. For every line of stdin, `WAY REQUESTS TOKENS`, it answers so many requests with so many
tokens each, and says how many tokens a second that were. A WAY is reference; or vllm, through the workbench; or
plain-vllm: the same vLLM with its own worker, asked by its own `LLM.generate`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from workbench.config import EngineConfig, Workload
from workbench.config.models import resolve
from workbench.engines import engine
from workbench.record.probe import NullProbe

Generate = Callable[[int, int], int]  # requests and tokens of each -> tokens in all

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


def through_the_workbench(running: Any) -> Generate:
    """Driven as a session drives it whose caller waits for whole answers."""

    def generate(requests: int, tokens: int) -> int:
        asked = Workload(prompts_of(requests), max_tokens=tokens, stop_at_end=False)
        return sum(map(len, running.generate(asked, stream=False)))

    return generate


def alone(running: Any, config: EngineConfig) -> Generate:
    """The vLLM that is loaded, as its users call it: its worker is vLLM's own while it answers."""
    from vllm import LLM, LLMEngine, SamplingParams

    from workbench.engines.vllm.starting import has_tokenizer

    folder = resolve(config.model)
    has_text = has_tokenizer(folder)
    with mock.patch.object(LLMEngine, "from_engine_args", return_value=running._engine):
        llm = LLM(model=str(folder), skip_tokenizer_init=not has_text)

    def generate(requests: int, tokens: int) -> int:
        texts = prompts_of(requests)
        asked = list(texts) if has_text else [{"prompt_token_ids": list(text.encode())} for text in texts]
        rules = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=has_text)
        llm.llm_engine.collective_rpc(_be_stock)
        try:
            answers = llm.generate(asked, rules, use_tqdm=False)
        finally:
            llm.llm_engine.collective_rpc(_be_recorded)
        return sum(len(answer.outputs[0].token_ids) for answer in answers)

    return generate


def _be_stock(worker: Any) -> None:
    worker = getattr(worker, "worker", worker)
    worker.__class__ = type(worker).__mro__[1]


def _be_recorded(worker: Any) -> None:
    from workbench.engines.vllm.worker import RecordedWorker

    worker = getattr(worker, "worker", worker)
    worker.__class__ = RecordedWorker


def main(name: str, model: str, sequences: str, budget: str, *settings: str) -> None:
    """Load, say `ready`, generate on demand."""
    config = config_of(model, int(sequences), budget, list(settings)).with_setting("engine", name)
    running = engine(name)()
    running.load(config, NullProbe())
    ways = {name: through_the_workbench(running)}
    if name == "vllm":
        ways["plain-vllm"] = alone(running, config)
    print("ready", flush=True)
    for line in sys.stdin:
        way, requests, tokens = line.split()
        start = time.perf_counter()
        count = ways[way](int(requests), int(tokens))
        print(f"tokens_per_s {count / (time.perf_counter() - start):.1f}", flush=True)
    running.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
