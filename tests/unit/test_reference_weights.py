"""Where the reference engine's weights lie, and which files they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from workbench.engines.reference import weights
from workbench.engines.reference.shape import Shape
from workbench.engines.reference.stored import INDEX
from workbench.errors import EngineError


def tensors_of(found: weights.Weights) -> list[torch.Tensor]:
    of_layers = (part for layer in found.layers for part in vars(layer).values())
    return [part for part in (found.embedding, found.norm, found.head, *of_layers) if part is not None]


def test_weights_on_a_device_lie_in_one_piece(tiny_model: Path) -> None:
    """Torch's allocator would else keep a part of every 20 MiB to itself. A device without memory tells as much."""
    shape = Shape.read(tiny_model)
    assert not shape.is_tied
    found = tensors_of(weights.load(tiny_model, shape, torch.bfloat16, torch.device("meta")))
    starts = sorted(part.storage_offset() * part.itemsize for part in found)
    assert starts[0] == 0
    assert all(start % weights.ALIGNED == 0 for start in starts)
    taken = sum(-(-part.nbytes // weights.ALIGNED) * weights.ALIGNED for part in found)
    assert {part.untyped_storage().nbytes() for part in found} == {taken}


def test_no_weight_lies_on_another() -> None:
    piece = weights.OnePiece(torch.zeros(1000))
    for number, size in enumerate([(3,), (64,), (5, 13), (1,)], 1):
        piece(size).fill_(number)
    assert [int((piece._memory == number).sum()) for number in range(1, 5)] == [3, 64, 65, 1]


def saved(model: Path, folder: Path, size: str) -> dict[str, torch.Tensor]:
    """A model in files of a size, as the library saves it; gives its weights."""
    whole: Any = AutoModelForCausalLM.from_pretrained(model)
    whole.save_pretrained(folder, max_shard_size=size)
    return load_file(model / "model.safetensors")


def left_over(folder: Path, name: str, found: dict[str, torch.Tensor]) -> None:
    """What another model left of the same names."""
    save_file({name: torch.full_like(weight, 7) for name, weight in found.items()}, folder / name, {"format": "pt"})


def embedding_and_norm(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    found = weights.load(folder, Shape.read(folder), torch.float32, torch.device("cpu"))
    return found.embedding, found.norm


@pytest.mark.parametrize(
    ("size", "name"),
    [
        ("1GB", "zz.safetensors"),
        ("1GB", "model-00001-of-00002.safetensors"),
        ("10KB", "zz.safetensors"),
        ("10KB", "a-of-another.safetensors"),
    ],
)
def test_what_another_model_left_is_not_read(tiny_model: Path, tmp_path: Path, size: str, name: str) -> None:
    truth = saved(tiny_model, tmp_path, size)
    assert (tmp_path / INDEX).exists() == (size == "10KB")
    left_over(tmp_path, name, truth)
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    embedding, norm = embedding_and_norm(tmp_path)
    assert torch.equal(embedding, theirs.model.embed_tokens.weight)
    assert torch.equal(embedding, truth["model.embed_tokens.weight"])
    assert torch.equal(norm, truth["model.norm.weight"])


def test_one_whole_file_comes_before_an_index(tiny_model: Path, tmp_path: Path) -> None:
    truth = saved(tiny_model, tmp_path, "10KB")
    left_over(tmp_path, "model.safetensors", truth)
    embedding, norm = embedding_and_norm(tmp_path)
    assert bool((embedding == 7).all())
    assert bool((norm == 7).all())


def test_a_weight_in_a_file_that_its_index_does_not_name_is_not_taken(tiny_model: Path, tmp_path: Path) -> None:
    saved(tiny_model, tmp_path, "10KB")
    said = json.loads((tmp_path / INDEX).read_text())
    del said["weight_map"]["model.norm.weight"]
    (tmp_path / INDEX).write_text(json.dumps(said))
    with pytest.raises(EngineError, match=r"has no weight 'model\.norm\.weight': a file of it is missing"):
        embedding_and_norm(tmp_path)


def test_a_file_without_a_weight_that_its_index_says_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    saved(tiny_model, tmp_path, "10KB")
    said = json.loads((tmp_path / INDEX).read_text())
    said["weight_map"]["model.norm.weight"] = said["weight_map"]["model.embed_tokens.weight"]
    (tmp_path / INDEX).write_text(json.dumps(said))
    with pytest.raises(EngineError, match=r"\.safetensors has no weight 'model\.norm\.weight', which .* says: get the"):
        embedding_and_norm(tmp_path)


def test_files_without_an_index_are_read_together(tiny_model: Path, tmp_path: Path) -> None:
    truth = saved(tiny_model, tmp_path, "10KB")
    (tmp_path / INDEX).unlink()
    embedding, norm = embedding_and_norm(tmp_path)
    assert torch.equal(embedding, truth["model.embed_tokens.weight"])
    assert torch.equal(norm, truth["model.norm.weight"])
    left_over(tmp_path, "zz.safetensors", {"model.norm.weight": norm})
    with pytest.raises(
        EngineError, match=r"has weight 'model\.norm\.weight' twice, in model-.* and zz\.safetensors: take"
    ):
        embedding_and_norm(tmp_path)
