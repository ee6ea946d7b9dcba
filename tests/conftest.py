"""What tests of several parts need."""

from __future__ import annotations

import signal
import string
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sessions import engine_processes

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts this in the background has it ignored


@pytest.fixture
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No engine outlives the test that began it."""
    yield
    deadline = time.monotonic() + 10
    while engine_processes(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not engine_processes(tmp_path)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of random weights and a tokenizer of one token a letter: loads in milliseconds."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    letters = ["<end>", *string.ascii_lowercase, " "]
    tokenizer = Tokenizer(models.WordLevel({letter: index for index, letter in enumerate(letters)}, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        eos_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    return folder
