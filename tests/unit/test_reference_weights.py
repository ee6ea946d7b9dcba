"""Where the reference engine's weights lie."""

from __future__ import annotations

from pathlib import Path

import torch

from workbench.engines.reference import weights
from workbench.engines.reference.shape import Shape


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
