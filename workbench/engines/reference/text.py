"""Text to tokens, and tokens back to text as they come out."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import commonprefix
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from workbench.config.models import TOKENIZER, has_tokenizer
from workbench.errors import EngineError

BEFORE = 64  # of a prompt's tokens: as many as the text of what follows may depend on
LOST = "\ufffd"  # what bytes that are no character decode to; also a sign that a text can hold


class Answer(Protocol):
    """The text of one answer, while it grows."""

    def add(self, token: int) -> str:
        """Gives what a token adds to the text; empty while a character may be incomplete."""

    def hold(self, token: int) -> None:
        """Takes a token whose text nobody wants yet."""

    def rest(self) -> str:
        """Gives what was kept back, once no more tokens come."""


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
    """What decoding has beyond the prompt, token by token: characters of several tokens wait for their last one."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        # A token is another text at the beginning of one, where many tokenizers leave out its space.
        self._before = list(prompt[-BEFORE:])
        self._new: list[int] = []
        self._told = 0  # characters of the new tokens' text

    def add(self, token: int) -> str:
        self._new.append(token)
        text = self._text()
        piece = self._tell(text.rstrip(LOST))  # more bytes can make a character of those that are none
        if text and not text.endswith(LOST):
            self._before, self._new, self._told = self._new, [], 0
        return piece

    def hold(self, token: int) -> None:
        self._new.append(token)

    def rest(self) -> str:
        return self._tell(self._text())

    def _tell(self, text: str) -> str:
        piece = text[self._told :]
        self._told += len(piece)
        return piece

    def _text(self) -> str:
        """The new tokens' text."""
        before, whole = self._decode(self._before), self._decode(self._before + self._new)
        if whole.startswith(before):
            return whole[len(before) :]
        if before.endswith(LOST):  # the new tokens complete its last character
            return whole[len(commonprefix((before, whole))) :]  # noqa: RUF071 - these are no paths
        return self._decode(self._new)  # some tokenizers lose characters before bytes that are none

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)


class Bytes:
    """A prompt's bytes as its tokens. Answers have no text: the weights are random."""

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        return [list(prompt.encode()) for prompt in prompts]

    def answer(self, prompt: Sequence[int]) -> Answer:
        return self

    def add(self, token: int) -> str:
        return ""

    def hold(self, token: int) -> None: ...

    def rest(self) -> str:
        return ""


class Stopping:
    """An answer that ends before the first of some texts; what may be the beginning of one is kept back.

    Without `stream` all is, where there is nothing to look for: to decode an answer at once takes far less time.
    """

    def __init__(self, answer: Answer, stops: Sequence[str], stream: bool = True) -> None:
        self._answer = answer
        self._stops = stops
        self._waits = not (stream or stops)
        self._held = ""
        self.has_stopped = False

    def add(self, token: int) -> str:
        """Gives what is certain to belong to the answer."""
        if self._waits:
            self._answer.hold(token)
            return ""
        text = self._cut(self._held + self._answer.add(token))
        kept = 0 if self.has_stopped else max((_beginning(text, stop) for stop in self._stops), default=0)
        certain = len(text) - kept
        self._held = text[certain:]
        return text[:certain]

    def rest(self) -> str:
        """Gives what was kept back, once no more tokens come."""
        if self.has_stopped:
            return ""
        held, self._held = self._cut(self._held + self._answer.rest()), ""
        return held

    def _cut(self, text: str) -> str:
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        self.has_stopped = bool(found)
        return text[: min(found, default=len(text))]


def _beginning(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
