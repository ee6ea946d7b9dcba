"""vLLM under the workbench's config: started, driven and ended from outside, and not changed."""

from __future__ import annotations

import atexit
import gc
import inspect
import sys
import weakref
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import Any

from workbench.config import EngineConfig, Workload
from workbench.config.models import has_tokenizer
from workbench.engines import model_folder
from workbench.engines.base import Piece
from workbench.engines.vllm import groups, starting, support
from workbench.engines.vllm.answers import Answers, Request
from workbench.engines.vllm.core import Core
from workbench.engines.vllm.refusal import in_one_line
from workbench.engines.vllm.sampling import sampling
from workbench.errors import EngineError, UsageError
from workbench.recorder.probe import NullProbe, Probe
from workbench.recorder.recorder import Recorder
from workbench.units import shown


class VllmEngine:
    """See `base.Engine`."""

    def __init__(self) -> None:
        self._probe: Probe = NullProbe()
        self._engine: Any = None  # vllm.LLMEngine
        self._held = ExitStack()
        self._has_begun = False  # to load, so that there may be something to give back
        self._answering: weakref.ref[Generator[list[Piece]]] | None = None

    def load(self, config: EngineConfig, probe: Probe) -> None:
        """Brings vLLM up in this process; its worker reports the phases."""
        folder = model_folder(config)
        starting.prepare(config.parallel.tensor)
        self._probe = probe
        self._has_begun = True
        self._has_text = has_tokenizer(folder)
        budget = config.limits.kv_budget
        what = f"to load {folder}" + (f" with limits.kv_budget {shown(budget)}" if budget else "")
        with in_one_line(what), ExitStack() as held:
            held.enter_context(groups.announced(config.process_group.name))
            self._engine = starting.start(config, folder)
            self._core = Core(self._engine)
            self._held = held.pop_all()
        atexit.register(self.close)  # Python would end answers that nobody took when vLLM's modules are gone
        self._max_length: int = self._engine.model_config.max_model_len
        if isinstance(probe, Recorder):
            probe.note("engine", self.what_runs())
            probe.facts("process_group", {"ranks": self._ask_workers("process_group")})

    def what_runs(self) -> dict[str, Any]:
        """Gives which vLLM, runner and attention really run, and what the KV cache is."""
        facts = self._ask_workers("what_runs")[0]
        core = self._core
        return {
            "vllm": support.installed(),
            **facts,
            "block_size": core.block_size,
            "blocks": core.blocks,
            "kv_cache_tokens": core.tokens,
        }

    def generate(self, workload: Workload, first: int = 0, stream: bool = True) -> Iterator[list[Piece]]:
        """Gives what comes out, step by step; refuses at once what can not be answered."""
        if self._engine is None:
            raise EngineError("vLLM is not loaded")
        if self._running() is not None:
            raise UsageError("vLLM is answering a workload: take all of its tokens, or close it")
        rules = sampling(workload, self._has_text, stream)
        requests = [
            Request(first + index, self._encode(index, prompt, workload.max_tokens))
            for index, prompt in enumerate(workload.prompts)
        ]
        answers = Answers(self._engine, self._core, self._probe, requests)
        pieces = answers.pieces(rules, stream)
        self._answering = weakref.ref(pieces)
        return pieces

    def close(self) -> None:
        """Shuts vLLM down and leaves its groups of processes."""
        if not self._has_begun:
            return
        atexit.unregister(self.close)
        if pieces := self._running():
            pieces.close()
        with self._probe.phase("teardown"):
            self._shut_down()
        self._has_begun = False

    def _running(self) -> Generator[list[Piece]] | None:
        """The answers that somebody still takes, if any."""
        pieces = self._answering() if self._answering else None
        return pieces if pieces is not None and inspect.getgeneratorstate(pieces) != inspect.GEN_CLOSED else None

    def _ask_workers(self, method: str) -> list[Any]:
        answers: list[Any] = self._engine.collective_rpc(method)
        return answers

    def _encode(self, index: int, prompt: str, max_tokens: int) -> list[int]:
        """The tokens of a prompt, if there is room for them and an answer."""
        tokens = self._engine.get_tokenizer().encode(prompt) if self._has_text else list(prompt.encode())
        if not tokens:
            raise UsageError(f"prompt {index} has no tokens: write something")
        if len(tokens) >= self._max_length:
            raise UsageError(
                f"prompt {index} has {len(tokens)} tokens and leaves no room for an answer within {self._max_length}: "
                "shorten it, or raise limits.max_length as far as the model goes"
            )
        whole = min(len(tokens) + max_tokens, self._max_length)
        if whole > self._core.tokens:  # vLLM would try for ever
            raise UsageError(
                f"prompt {index} and its answer may take {whole} tokens, and the KV budget holds {self._core.tokens}: "
                "raise limits.kv_budget, or lower max_tokens"
            )
        return tokens

    def _shut_down(self) -> None:
        if self._engine is not None:
            self._engine.engine_core.shutdown()
            self.__dict__.pop("_core", None)  # there is none where vLLM's could not be looked into
            self._engine = None
        if state := sys.modules.get("vllm.distributed.parallel_state"):  # not where its import has failed
            gc.unfreeze()  # vLLM hides what it made from the collector
            state.cleanup_dist_env_and_memory()
        self._held.close()
