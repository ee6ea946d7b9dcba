"""An engine that generates on demand: speed.py ENGINE MODEL SEQUENCES KV_BUDGET [AXIS=VALUE …]

ENGINE is reference or vllm. For every line of stdin, `WAY REQUESTS TOKENS`, it answers so many requests with so many
tokens each, and says in a line of JSON how many tokens a second that were, and the seconds before vLLM's first step and
after the last that told of an answer. A WAY is reference; or vllm, through the workbench; or plain-vllm: the same vLLM
with its own worker, asked by its own `LLM.generate`; or steps: through the workbench, but of neighbouring windows of
steps one is plain vLLM's, as chance decides. That one says the seconds of every pair: through the workbench, plain. And
streamed: steps in which vLLM tells of every token, which plain it is asked for too, and nobody takes.
"""

from __future__ import annotations

import functools
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from workbench.config import EngineConfig, Workload
from workbench.config.models import has_tokenizer, resolve
from workbench.engines import engine
from workbench.recorder.probe import NullProbe

Generate = Callable[[int, int], int]  # requests and tokens of each -> tokens in all

LENGTH = 1024  # of a prompt and its answer, at most
WARM_UP = 12  # steps: those that read prompts, and as many before the first answer ends
WINDOW = 16  # steps: in one of so many, vLLM finds every request a new block


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
        return sum(len(piece.ids) for pieces in running.generate(asked, stream=False) for piece in pieces)

    return generate


class Stock:
    """Makes the vLLM that is loaded its own for a while: its worker, and what its executor is asked by."""

    def __init__(self, engine: Any) -> None:
        self._executor = engine.engine_core.engine_core.model_executor
        self._worker = self._executor.driver_worker.worker
        self._noted = self._executor.execute_model
        self._recorded = type(self._worker)

    def set(self, stock: bool) -> None:
        if stock:
            self._worker.__class__ = self._recorded.__mro__[1]
            self._executor.__dict__.pop("execute_model", None)
        else:
            self._worker.__class__ = self._recorded
            self._executor.execute_model = self._noted


def alone(running: Any, config: EngineConfig, stock: Stock) -> Generate:
    """The same vLLM, as its users call it."""
    from vllm import LLM, LLMEngine, SamplingParams

    folder = resolve(config.model)
    has_text = has_tokenizer(folder)
    with mock.patch.object(LLMEngine, "from_engine_args", return_value=running._engine):
        llm = LLM(model=str(folder), skip_tokenizer_init=not has_text)

    def generate(requests: int, tokens: int) -> int:
        texts = prompts_of(requests)
        asked = list(texts) if has_text else [{"prompt_token_ids": list(text.encode())} for text in texts]
        rules = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=has_text)
        stock.set(True)
        try:
            answers = llm.generate(asked, rules, use_tqdm=False)
        finally:
            stock.set(False)
        return sum(len(answer.outputs[0].token_ids) for answer in answers)

    return generate


class Marks:
    """When vLLM's first step began, and when the last that told of an answer ended; how many there were."""

    def __init__(self, engine: Any) -> None:
        self.begun = self.told = 0.0
        self.steps, self.until = 0, -1  # at that number, a step seems to have told something
        self._step = engine.step
        engine.step = self._marked

    def _marked(self) -> Any:
        if not self.begun:
            self.begun = time.perf_counter()
        outputs = self._step()
        self.steps += 1
        if outputs:
            self.told = time.perf_counter()
        return Nothing() if self.steps == self.until else outputs


class Nothing(list[Any]):
    """What makes the workbench, which else goes on until something is told, come back from a step."""

    def __bool__(self) -> bool:
        return True


def round_of(generate: Generate, requests: int, tokens: int, marks: Marks | None) -> dict[str, float]:
    """One answer to so many requests, and how long what took."""
    if marks:
        marks.begun = 0.0
    start = time.perf_counter()
    count = generate(requests, tokens)
    end = time.perf_counter()
    found = {"tokens_per_s": count / (end - start)}
    return found | ({"before_s": marks.begun - start, "after_s": end - marks.told} if marks else {})


def steps_in_turn(
    running: Any, stock: Stock, marks: Marks, requests: int, tokens: int, stream: bool
) -> dict[str, list[list[float]]]:
    """Windows of steps in which all requests are answered and none ends, through the workbench and plain."""
    asked = Workload(prompts_of(requests), max_tokens=tokens, stop_at_end=False)
    answers = running.generate(asked, stream=stream)

    def through(steps: int) -> None:
        marks.until = marks.steps + steps
        while marks.steps < marks.until:
            next(answers)

    def plain(steps: int) -> None:
        step = running._engine.step
        for _ in range(steps):
            step()

    through(WARM_UP)
    pairs = []
    for _ in range((tokens - 2 * WARM_UP) // (2 * WINDOW)):
        seconds = {}
        for way in random.sample((through, plain), 2):
            stock.set(way is plain)
            start = time.perf_counter()
            way(WINDOW)
            seconds[way] = time.perf_counter() - start
        pairs.append([seconds[through], seconds[plain]])
    stock.set(False)
    answers.close()
    return {"pairs": pairs}


def main(name: str, model: str, sequences: str, budget: str, *settings: str) -> None:
    """Load, say `ready`, generate on demand."""
    config = config_of(model, int(sequences), budget, list(settings)).with_setting("engine", name)
    running: Any = engine(name)()
    running.load(config, NullProbe())
    ways, marks = {name: through_the_workbench(running)}, None
    if name == "vllm":
        stock, marks = Stock(running._engine), Marks(running._engine)
        ways["plain-vllm"] = alone(running, config, stock)
        in_turn = functools.partial(steps_in_turn, running, stock, marks)
    print("ready", flush=True)
    for line in sys.stdin:
        way, requests, tokens = line.split()
        if way in ("steps", "streamed"):
            document: object = in_turn(int(requests), int(tokens), way == "streamed")
        else:
            document = round_of(ways[way], int(requests), int(tokens), marks)
        print("found", json.dumps(document), flush=True)
    running.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
