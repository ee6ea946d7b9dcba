"""Text to tokens, and tokens back to text as they come out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from workbench.config.models import TOKENIZER, has_tokenizer
from workbench.errors import EngineError

BEFORE = 8  # of a prompt's tokens: as many as the text of what follows may depend on


class Answer(Protocol):
    """The text of one answer, while it grows."""

    def add(self, token: int) -> str:
        """Gives what a token adds to the text; empty while a character is incomplete."""


class Text(Protocol):
    """What stands between prompts and tokens."""

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Gives the tokens of each prompt."""

    def answer(self, prompt: Sequence[int]) -> Answer:
        """Gives a new answer's text, which goes on after a prompt's tokens."""


def text_of(folder: Path) -> Text:
    """Gives the tokenizer of a model's folder; a shape without one takes bytes for tokens."""
    if not has_tokenizer(folder):
        return Bytes()
    file = folder / TOKENIZER
    try:
        return Tokenized(Tokenizer.from_file(str(file)))
    except Exception as error:  # tokenizers raises no narrower kind
        raise EngineError(f"{file} can not be read: {error}") from None


class Tokenized:
    """Text by a model's own tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(prompts))]

    def answer(self, prompt: Sequence[int]) -> Answer:
        return TokenizedAnswer(self._tokenizer, prompt)


class TokenizedAnswer:
    """Decodes token by token: characters of several tokens wait for their last one."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        # A token is another text at the beginning of one, where many tokenizers leave out its space.
        self._stream = DecodeStream(list(prompt[-BEFORE:]), skip_special_tokens=True)

    def add(self, token: int) -> str:
        return self._stream.step(self._tokenizer, token) or ""


class Bytes:
    """A prompt's bytes as its tokens. Answers have no text: the weights are random."""

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        return [list(prompt.encode()) for prompt in prompts]

    def answer(self, prompt: Sequence[int]) -> Answer:
        return self

    def add(self, token: int) -> str:
        return ""


class Stopping:
    """An answer that ends before the first of some texts; what may be the beginning of one is kept back."""

    def __init__(self, answer: Answer, stops: Sequence[str]) -> None:
        self._answer = answer
        self._stops = stops
        self._held = ""
        self.has_stopped = False

    def add(self, token: int) -> str:
        """Gives what is certain to belong to the answer."""
        text = self._held + self._answer.add(token)
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.has_stopped = True
            self._held = ""
            return text[: min(found)]
        certain = len(text) - max((_beginning(text, stop) for stop in self._stops), default=0)
        self._held = text[certain:]
        return text[:certain]

    def rest(self) -> str:
        """Gives what was kept back, once no more tokens come."""
        held, self._held = self._held, ""
        return held


def _beginning(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
