"""An answer's text goes on after its prompt's, by tokenizers that say where a text begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from workbench.engines.reference.text import Stopping, Tokenized, text_of

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["<unk>", "▁once", "▁upon", "▁a", "▁time", "s", *BYTES]


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


def test_bytes_that_are_no_character_take_nothing_of_what_is_before(folder: Path) -> None:
    """Such a tokenizer decodes a row of bytes as a whole, or none of it."""
    assert told(folder, "once", "<0xC3>", "<0xA9>", "<0xE2>", "▁a") == "é� a"
    assert told(folder, "once", "<0xC3>", "<0xA9>", "<0xE2>", "<0x82>", "<0xAC>", "▁a") == "é€ a"
    assert told(folder, "once", "<0xE2>", "<0x82>", "▁a") == "�� a"
    assert told(folder, "once", *[f"<0x{byte:02X}>" for byte in "�😀".encode()]) == "�😀"


def by_bytes() -> Tokenizer:
    """A tokenizer as GPT-2's: every token is some bytes, whether they are characters or not."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    known = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for text in ("the", " a", "é", "�", "😀"):
        whole, *others = list(split.pre_tokenize_str(text)[0][0])
        for other in others:
            merges.append((whole, other))
            whole += other
            known.append(whole)
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(known)}, merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    return tokenizer


TOKENIZER = by_bytes()
PROMPTS = st.lists(st.sampled_from(["the", " ", "a", "é", "�", "😀", "<end>"]), min_size=1, max_size=12).map("".join)
TOKENS = st.integers(0, TOKENIZER.get_vocab_size() - 1)
NUMBERS = TOKENIZER.get_vocab()
BROKEN = st.sampled_from([NUMBERS[token] for token in ("ï¿", "ï¿½", "ðŁ", "ðŁĺ", "Ģ", "Ã", "©", "the")])
ANSWERS = st.lists(TOKENS | BROKEN, max_size=30)


def pieces(prompt: str, answer: Sequence[int], *stops: str) -> Iterator[str]:
    """What is told token by token, and then the rest."""
    text = Tokenized(TOKENIZER)
    told = Stopping(text.answer(text.encode([prompt])[0]), stops)
    for token in answer:
        yield told.add(token)
        if told.has_stopped:
            return
    yield told.rest()


def at_once(prompt: str, answer: Sequence[int]) -> str:
    """What is told where nobody waits for tokens."""
    text = Tokenized(TOKENIZER)
    told = Stopping(text.answer(text.encode([prompt])[0]), (), stream=False)
    assert not any(told.add(token) for token in answer)
    return told.rest()


def beyond(prompt: str, answer: Sequence[int]) -> str:
    """What decoding of all has beyond the prompt."""
    tokens = TOKENIZER.encode(prompt).ids
    before, whole = TOKENIZER.decode(tokens), TOKENIZER.decode([*tokens, *answer])
    assert whole.startswith(before)
    return whole[len(before) :]


@settings(max_examples=400, deadline=None)
@given(PROMPTS, ANSWERS)
def test_pieces_together_are_what_decoding_has_beyond_the_prompt(prompt: str, answer: list[int]) -> None:
    assert "".join(pieces(prompt, answer)) == beyond(prompt, answer) == at_once(prompt, answer)


@settings(max_examples=400, deadline=None)
@given(PROMPTS, ANSWERS, st.sampled_from(["the", "a", "�", "��", "é�", "ea"]))
def test_an_answer_ends_before_the_first_of_a_text_that_is_not_the_prompt_s(
    prompt: str, answer: list[int], stop: str
) -> None:
    assert "".join(pieces(prompt, answer, stop)) == beyond(prompt, answer).partition(stop)[0]


def test_signs_for_what_is_no_character_are_told_once_something_else_comes() -> None:
    answer = TOKENIZER.encode("��a��").ids
    assert list(pieces("Repeat: ���", answer)) == ["", "", "��a", "", "", "��"]


def test_a_character_that_is_begun_in_the_prompt_is_the_answer_s() -> None:
    answer = Tokenized(TOKENIZER).answer([*TOKENIZER.encode("the ").ids, NUMBERS["Ã"]])
    assert answer.add(NUMBERS["©"]) == "é"
