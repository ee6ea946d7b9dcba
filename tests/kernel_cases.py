"""Each kernel beside its twin. Run as a program it says what went wrong with each small case, as JSON.

The unit tests run it so with TRITON_INTERPRET=1, which would change Triton for all that a process does.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.testing import assert_close
from workbench.kernels.gate import silu_and_multiply, silu_and_multiply_twin
from workbench.kernels.layout import BLOCK_SIZE
from workbench.kernels.norm import rms_norm, rms_norm_twin
from workbench.kernels.paged_attention import attend_decode, attend_decode_twin, attend_prefill, attend_prefill_twin
from workbench.kernels.rotary import rotate_and_store, rotate_and_store_twin

EPS = 1e-6
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 2e-2}  # absolute and relative


class Shape(NamedTuple):
    """The heads of a model."""

    heads: int
    kv_heads: int
    size: int
    has_norms: bool = False


class Place(NamedTuple):
    """Where a case runs, and in which numbers."""

    device: str
    dtype: torch.dtype

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device).to(self.dtype)

    def whole(self, numbers: Sequence[int], dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.tensor(numbers, dtype=dtype, device=self.device)


class Paged(NamedTuple):
    """Sequences in a cache, where every slot that is not theirs holds NaN."""

    cache: Tensor  # [slots, 2, KV, D]
    block_table: Tensor  # [B, blocks]
    lengths: Tensor  # [B]


def paged(shape: Shape, lengths: Sequence[int], most_blocks: int, place: Place) -> Paged:
    """Gives sequences whose blocks lie in no order; their table has gaps, as one cut from a wider one has."""
    needed = [-(-length // BLOCK_SIZE) for length in lengths]
    shuffled = torch.randperm(sum(needed) + 1).tolist()
    table = torch.full((len(lengths), most_blocks + 3), sum(needed) + 100, dtype=torch.int32)  # far out of the cache
    cache = torch.full((len(shuffled) * BLOCK_SIZE, 2, shape.kv_heads, shape.size), torch.nan).to(place.dtype)
    for row, (length, blocks) in enumerate(zip(lengths, needed, strict=True)):
        table[row, :blocks] = torch.tensor([shuffled.pop() for _ in range(blocks)])
        for position in range(length):
            slot = table[row, position // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE
            cache[slot] = torch.randn(2, shape.kv_heads, shape.size).to(place.dtype)
    return Paged(cache.to(place.device), table.to(place.device)[:, :most_blocks], place.whole(lengths))


def agree(kernel: object, twin: object, place: Place) -> None:
    tolerance = TOLERANCE[place.dtype]
    assert_close(kernel, twin, atol=tolerance, rtol=tolerance, equal_nan=True)


def norm(rows: int, hidden: int, has_residual: bool, place: Place) -> None:
    x, weight, residual = place.random(rows, hidden), place.random(hidden), place.random(rows, hidden)
    mine, twin = ((residual.clone() if has_residual else None) for _ in range(2))
    agree(rms_norm(x, weight, EPS, mine), rms_norm_twin(x, weight, EPS, twin), place)
    given = torch.empty_like(x)
    normed, rest = rms_norm(x, weight, EPS, out=given)
    assert normed is given
    assert rest is x


def gate(rows: int, size: int, place: Place) -> None:
    gate_up = 4 * place.random(rows, 2 * size)
    agree(silu_and_multiply(gate_up), silu_and_multiply_twin(gate_up), place)


def rotary(shape: Shape, rows: int, numbers: torch.dtype, place: Place) -> None:
    qkv = place.random(rows, (shape.heads + 2 * shape.kv_heads) * shape.size)
    positions = torch.randint(500, (rows,), device=place.device, dtype=numbers)
    slots = torch.randperm(rows + 9)[:rows].to(place.device)
    slots[rows // 2] = -1
    angles = torch.arange(500).unsqueeze(1) * torch.rand(shape.size // 2)
    cos_sin = torch.cat((angles.cos(), angles.sin()), dim=1).to(place.device)
    norms = [place.random(shape.size) if shape.has_norms else None for _ in range(2)]
    caches = [torch.full((rows + 9, 2, shape.kv_heads, shape.size), torch.nan).to(qkv) for _ in range(2)]
    mine, twin = (
        turn(qkv, positions, slots, cos_sin, cache, *norms, EPS, shape.heads, shape.kv_heads)
        for turn, cache in zip((rotate_and_store, rotate_and_store_twin), caches, strict=True)
    )
    agree(mine, twin, place)
    agree(caches[0], caches[1], place)
    assert caches[0].isnan().all(dim=3).sum() == 10 * 2 * shape.kv_heads  # the slots of nobody, and the one of slot -1


def decode(shape: Shape, lengths: Sequence[int], most_blocks: int, place: Place) -> None:
    q = place.random(len(lengths), shape.heads, shape.size)
    sequences = paged(shape, lengths, most_blocks, place)
    mine = attend_decode(q, *sequences, shape.size**-0.5)
    agree(mine, attend_decode_twin(q, *sequences, shape.size**-0.5), place)
    assert not mine[sequences.lengths == 0].any()


def prefill(shape: Shape, lengths: Sequence[int], rows: Sequence[int], most_blocks: int, place: Place) -> None:
    starts = place.whole([sum(rows[:index]) for index in range(len(rows) + 1)])
    q = place.random(sum(rows), shape.heads, shape.size)
    sequences = paged(shape, lengths, most_blocks, place)
    mine = attend_prefill(q, *sequences, starts, max(rows), shape.size**-0.5)
    agree(mine, attend_prefill_twin(q, *sequences, starts, max(rows), shape.size**-0.5), place)


Case = Callable[[Place], None]
SMALL: dict[str, Case] = {
    "norm": partial(norm, 3, 576, False),
    "norm of the sum": partial(norm, 3, 576, True),
    "norm of a power of two": partial(norm, 2, 1024, True),
    "gate": partial(gate, 2, 1536),
    "rotary": partial(rotary, Shape(9, 3, 64), 5, torch.int64),
    "rotary with norms": partial(rotary, Shape(4, 2, 128, True), 5, torch.int32),
    "rotary of odd sizes": partial(rotary, Shape(5, 1, 96, True), 3, torch.int64),
    "decode in one split": partial(decode, Shape(9, 3, 64), [1, 0, 32, 17], 2),
    "decode in splits": partial(decode, Shape(4, 2, 128), [0, 1, 200, 384], 24),
    "decode of several tiles a split": partial(decode, Shape(2, 1, 16), [4400, 70], 280),
    "decode of odd sizes": partial(decode, Shape(20, 1, 96), [65, 16], 24),
    "decode of tiny heads": partial(decode, Shape(4, 2, 8), [33, 80], 6),
    "prefill from nothing": partial(prefill, Shape(3, 1, 64), [70, 16], [70, 16], 5),
    "prefill of chunks beside decoding": partial(prefill, Shape(4, 2, 128), [150, 0, 33, 300], [66, 0, 1, 2], 24),
    "prefill of odd sizes": partial(prefill, Shape(2, 1, 96), [90], [40], 6),
    "prefill of tiny heads": partial(prefill, Shape(4, 2, 8), [20, 3], [20, 3], 2),
}
INTERPRETED = {  # the interpreter multiplies the bits of bfloat16 as whole numbers, so there is no dot product in it
    "float32": SMALL,
    "float16": SMALL,
    "bfloat16": {name: case for name, case in SMALL.items() if not name.startswith(("decode", "prefill"))},
}
SMOLLM2, QWEN3 = Shape(9, 3, 64), Shape(16, 8, 128, True)
LONG = [4096, 1, 0, 2049, 777, 32, 64, 1000]
LARGE: dict[str, Case] = {
    "norm of one row": partial(norm, 1, 1024, True),
    "norm of many rows": partial(norm, 8192, 576, True),
    "norm of long rows": partial(norm, 5, 16384, False),
    "gate of many rows": partial(gate, 4096, 3072),
    "rotary of smollm2": partial(rotary, SMOLLM2, 2048, torch.int64),
    "rotary of qwen3": partial(rotary, QWEN3, 2048, torch.int64),
    "decode of one long sequence": partial(decode, SMOLLM2, [4096], 256),
    "decode of smollm2": partial(decode, SMOLLM2, LONG, 256),
    "decode of qwen3": partial(decode, QWEN3, LONG, 256),
    "decode of a full batch": partial(decode, QWEN3, [(37 * index) % 150 for index in range(256)], 256),
    "decode of a full batch in one split": partial(decode, SMOLLM2, [index % 33 for index in range(256)], 2),
    "prefill of smollm2": partial(prefill, SMOLLM2, [2048, 100, 513], [2048, 100, 513], 256),
    "prefill of chunks of qwen3": partial(prefill, QWEN3, [4096, 1, 0, 2049, 777], [512, 1, 0, 1, 300], 256),
}


def failure(case: Case, place: Place) -> str:
    """Gives the traceback of what went wrong, if anything did."""
    torch.manual_seed(0)
    try:
        case(place)
    except Exception:
        return traceback.format_exc()
    return ""


def outcomes() -> dict[str, str]:
    """Gives the failure of every small case on the CPU; what is not written yet is NaN there."""
    torch.use_deterministic_algorithms(True)
    return {
        f"{name}, {dtype}": failure(case, Place("cpu", getattr(torch, dtype)))
        for dtype, names in INTERPRETED.items()
        for name, case in names.items()
    }


if __name__ == "__main__":
    print(json.dumps(outcomes()))
