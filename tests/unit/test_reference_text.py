"""An answer's text goes on after its prompt's, by tokenizers that say where a text begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from workbench.engines.reference.text import text_of

WORDS = ["<unk>", "▁once", "▁upon", "▁a", "▁time", "s", "<0xC3>", "<0xA9>"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer as Llama's by SentencePiece: each word begins with its space, and the first of a text loses it."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def told(folder: Path, prompt: str, *words: str) -> str:
    text = text_of(folder)
    answer = text.answer(text.encode([prompt])[0])
    return "".join(answer.add(WORDS.index(word)) for word in words)


def test_the_first_word_keeps_its_space(folder: Path) -> None:
    assert told(folder, "once upon", "▁a", "▁time", "s") == " a times"
    assert told(folder, "once upon a", "s") == "s"


def test_so_it_does_after_a_prompt_that_is_longer_than_what_is_looked_at(folder: Path) -> None:
    assert told(folder, "once upon a time " * 5 + "once", "▁upon") == " upon"


def test_a_character_of_two_tokens_waits_for_the_second(folder: Path) -> None:
    assert told(folder, "once", "<0xC3>") == ""
    assert told(folder, "once", "<0xC3>", "<0xA9>") == "é"
