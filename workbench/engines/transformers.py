"""The baseline: the plain Hugging Face model, one forward pass a token, on the GPU if there is one, else on the CPU."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils.logging import disable_progress_bar

from workbench.config import EngineConfig, Workload
from workbench.config.models import resolve
from workbench.engines.base import Token
from workbench.errors import EngineError, UsageError
from workbench.record.probe import NullProbe, Probe


class TransformersEngine:
    """Answers prompts in batches of `limits.max_sequences`; a batch runs until its last answer is complete."""

    def __init__(self) -> None:
        self._config = EngineConfig()
        self._probe: Probe = NullProbe()
        self._model: Any = None
        self._tokenizer: Any = None
        self._ends: set[int] = set()  # tokens that end an answer

    def load(self, config: EngineConfig, probe: Probe) -> None:
        """Reads the weights; refuses a KV budget, since this model's cache grows as it likes."""
        if config.limits.kv_budget is not None:
            raise UsageError("engine 'transformers' has no KV budget: leave limits.kv_budget unset")
        self._config, self._probe = config, probe
        folder = resolve(config.model)
        disable_progress_bar()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with probe.phase("load_weights"), probe.tag("weights"):
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(folder)
                model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=config.dtype)
            except (OSError, ValueError) as error:
                raise EngineError(f"transformers can not load {folder}: {str(error).splitlines()[0]}") from error
            self._model = model.to(device).eval()
        ends = model.generation_config.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends])

    def generate(self, workload: Workload) -> Iterator[Token]:
        """Gives the tokens of each batch's answers in turns, one a request."""
        requests = [Request(index, self._encoded(prompt)) for index, prompt in enumerate(workload.prompts)]
        choose = Sampler(workload.temperature, workload.seed, self._model.device)
        size = self._config.limits.max_sequences
        for start in range(0, len(requests), size):
            yield from self._answer(requests[start : start + size], workload, choose)

    def close(self) -> None:
        """Drops the model and gives the GPU's cached memory back."""
        if self._model is None:
            return
        with self._probe.phase("teardown"):
            self._model = self._tokenizer = None
            gc.collect()  # a model's modules refer to each other in circles
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _encoded(self, prompt: str) -> list[int]:
        tokens: list[int] = self._tokenizer(prompt)["input_ids"]
        if len(tokens) >= self._max_length():
            raise UsageError(
                f"a prompt of {len(tokens)} tokens leaves no room for an answer within {self._max_length()}: "
                "raise limits.max_length or shorten it"
            )
        return tokens

    def _max_length(self) -> int:
        made_for: int = self._model.config.max_position_embeddings
        return min(made_for, self._config.limits.max_length or made_for)

    def _answer(self, requests: Sequence[Request], workload: Workload, choose: Sampler) -> Iterator[Token]:
        """Prefills a batch, then decodes it."""
        with self._probe.phase("prefill"):
            batch = Batch.of([request.prompt for request in requests], self._model, self._probe)
            chosen = choose(batch.forward(batch.prompts))
            yield from self._accept(requests, chosen, workload)
        with self._probe.phase("decode"):
            while not all(request.complete for request in requests):
                chosen = choose(batch.forward(chosen[:, None]))
                yield from self._accept(requests, chosen, workload)

    def _accept(self, requests: Sequence[Request], chosen: torch.Tensor, workload: Workload) -> Iterator[Token]:
        """Gives this step's token of every request that is not complete yet."""
        for request, token in zip(requests, chosen.tolist(), strict=True):
            if request.complete:
                continue
            position = request.answered
            request.answered += 1
            request.complete = self._is_last(request, token, workload)
            self._probe.tokens(request.index, position)
            text = request.text.step(self._tokenizer.backend_tokenizer, token) or ""
            yield Token(request.index, position, token, text)

    def _is_last(self, request: Request, token: int, workload: Workload) -> bool:
        ends = workload.stop_at_end and token in self._ends
        length = len(request.prompt) + request.answered
        return ends or request.answered == workload.max_tokens or length == self._max_length()


@dataclass
class Request:
    """One prompt and how far its answer is."""

    index: int
    prompt: list[int]
    answered: int = 0
    complete: bool = False
    text: Any = field(default_factory=lambda: DecodeStream(skip_special_tokens=True))


@dataclass
class Batch:
    """Sequences that go through the model together, padded on the left so that all end at the same column."""

    prompts: torch.Tensor  # [B, S]
    mask: torch.Tensor  # [B, S so far], 0: padding
    model: Any
    cache: Cache
    probe: Probe

    @classmethod
    def of(cls, prompts: Sequence[list[int]], model: Any, probe: Probe) -> Batch:
        """Gives the batch of these prompts, with an empty cache."""
        width = max(map(len, prompts))
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        padded = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        return cls(padded.to(model.device), mask.to(model.device), model, Cache(model.config, probe), probe)

    @torch.inference_mode()
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Runs the model on each sequence's next tokens and gives the logits after the last: [B, S] -> [B, V]."""
        if self.cache.get_seq_length():
            self.mask = torch.cat([self.mask, torch.ones_like(tokens)], dim=1)
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        with self.probe.tag("activations"):
            logits: torch.Tensor = self.model(
                tokens,
                attention_mask=self.mask,
                position_ids=positions,
                past_key_values=self.cache,
                logits_to_keep=1,
            ).logits
        return logits[:, -1]


class Cache(DynamicCache):
    """The model's own growing cache; says that what it takes is for keys and values."""

    def __init__(self, config: Any, probe: Probe) -> None:
        super().__init__(config=config)
        self._probe = probe

    def update(self, *states: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends one layer's keys and values; the grown tensors are new memory at every step."""
        with self._probe.tag("kv_cache"):
            grown: tuple[torch.Tensor, torch.Tensor] = super().update(*states, **options)
            return grown


class Sampler:
    """Chooses the next token of every sequence: [B, V] -> [B]."""

    def __init__(self, temperature: float, seed: int, device: torch.device) -> None:
        self._temperature = temperature
        self._random = torch.Generator(device).manual_seed(seed)

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Gives the likeliest token at temperature 0, else one drawn by its probability."""
        if self._temperature == 0:
            return logits.argmax(dim=-1)
        shares = (logits.float() / self._temperature).softmax(dim=-1)
        return torch.multinomial(shares, 1, generator=self._random)[:, 0]
