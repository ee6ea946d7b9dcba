"""The CPU's kernels held to the twins that the Triton kernels have too."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from workbench.kernels import on_cpu
from workbench.kernels.gate import silu_and_multiply_twin
from workbench.kernels.norm import rms_norm_twin
from workbench.kernels.paged_attention import attend_decode_twin
from workbench.kernels.rotary import rotate_and_store_twin

from tests.kernel_cases import EPS, Place, Shape, agree, paged

SHAPES = [Shape(9, 3, 64), Shape(16, 8, 128, has_norms=True), Shape(40, 2, 24), Shape(4, 4, 512, has_norms=True)]
DTYPES = [torch.float32, torch.bfloat16]
COUNT_OPENMP = """
import torch
from workbench.kernels import on_cpu

def loaded():
    return {{word for word in open("/proc/self/maps").read().split() if "libgomp" in word or "libiomp" in word}}

before = loaded()
assert on_cpu.serves({dtype}, 64)
on_cpu.silu_and_multiply(torch.ones(64, 2048))
assert loaded() == before and len(before) == 1, loaded()
"""

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (1, 576), (3, 77), (64, 2048)])
def test_the_norm(rows: int, size: int, dtype: torch.dtype) -> None:
    place = Place("cpu", dtype)
    x, weight = place.random(rows, size), place.random(size)
    agree(on_cpu.rms_norm(x, weight, EPS), rms_norm_twin(x, weight, EPS)[0], place)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (1, 1536), (3, 77), (64, 1536)])
def test_the_gate(rows: int, size: int, dtype: torch.dtype) -> None:
    place = Place("cpu", dtype)
    gate_up = place.random(rows, 2 * size) * 10
    agree(on_cpu.silu_and_multiply(gate_up), silu_and_multiply_twin(gate_up), place)


def test_the_gate_of_what_is_very_large(dtype: torch.dtype) -> None:
    gate_up = torch.tensor([[-1e30, -200.0, -88.0, 0.0, 88.0, 200.0, 1e30] + [1.0] * 7], dtype=dtype)
    agree(on_cpu.silu_and_multiply(gate_up), silu_and_multiply_twin(gate_up), Place("cpu", dtype))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_rotating_and_storing(rows: int, shape: Shape, dtype: torch.dtype) -> None:
    place = Place("cpu", dtype)
    qkv = place.random(rows, (shape.heads + 2 * shape.kv_heads) * shape.size)
    slots, positions = torch.randperm(100)[:rows], torch.randint(200, (rows,))
    cos_sin, norms = torch.randn(200, shape.size), [place.random(shape.size) if shape.has_norms else None] * 2
    mine, twin = (place.random(100, 2, shape.kv_heads, shape.size) * 0 for _ in range(2))
    rest = (positions, slots, cos_sin)
    kept = (*norms, EPS, shape.heads, shape.kv_heads)
    agree(on_cpu.rotate_and_store(qkv, *rest, mine, *kept), rotate_and_store_twin(qkv, *rest, twin, *kept), place)
    agree(mine, twin, place)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lengths", [(1,), (16,), (17, 1, 64, 65), (300, 5), (31,) * 16], ids=str)
def test_attention(lengths: tuple[int, ...], shape: Shape, dtype: torch.dtype) -> None:
    place = Place("cpu", dtype)
    cache, table, tokens = paged(shape, lengths, -(-max(lengths) // 16), place)
    q, scale = place.random(len(lengths), shape.heads, shape.size), shape.size**-0.5
    found = on_cpu.attend_decode(q, cache, table.long().contiguous(), tokens.long(), scale)
    agree(found, attend_decode_twin(q, cache, table, tokens, scale), place)


def test_scores_that_no_float_s_exponential_holds(dtype: torch.dtype) -> None:
    place, shape = Place("cpu", dtype), Shape(2, 1, 64)
    cache, table, tokens = paged(shape, (200,), 13, place)
    q = place.random(1, 2, 64) * 100
    found = on_cpu.attend_decode(q, cache, table.long().contiguous(), tokens.long(), 1.0)
    agree(found, attend_decode_twin(q, cache, table, tokens, 1.0), place)


@pytest.mark.parametrize("where", ["gate", "up"])
def test_the_gate_of_nan_is_nan(where: str, dtype: torch.dtype) -> None:
    gate_up = torch.ones(2, 80, dtype=dtype)
    gate_up[1, 7 + 40 * (where == "up")] = torch.nan
    agree(on_cpu.silu_and_multiply(gate_up), silu_and_multiply_twin(gate_up), Place("cpu", dtype))


@pytest.mark.parametrize("where", ["query", "key", "value"])
@pytest.mark.parametrize("token", [0, 70, 199])
@pytest.mark.parametrize("length", [1, 65, 200])
def test_attention_to_nan_is_nan(length: int, token: int, where: str, dtype: torch.dtype) -> None:
    """What is wrong in a model must not look like an answer."""
    place, shape = Place("cpu", dtype), Shape(4, 2, 64)
    cache, table, tokens = paged(shape, (length,), 13, place)
    q, token = place.random(1, 4, 64), min(token, length - 1)
    slot = int(table[0, token // 16]) * 16 + token % 16
    spoiled = {"query": q[0, 0], "key": cache[slot, 0, 0], "value": cache[slot, 1, 0]}[where]
    spoiled[5] = torch.nan
    found = on_cpu.attend_decode(q, cache, table.long().contiguous(), tokens.long(), 0.125)
    agree(found, attend_decode_twin(q, cache, table, tokens, 0.125), place)


def test_they_bring_no_second_openmp(dtype: torch.dtype) -> None:
    """Two of them would make two sets of threads, which wait for work on the same cores."""
    subprocess.run([sys.executable, "-c", COUNT_OPENMP.format(dtype=dtype)], check=True)


def test_gaps_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"x of shape .* is not contiguous"):
        on_cpu.rms_norm(torch.ones(4, 8, dtype=dtype)[:, ::2], torch.ones(4, dtype=dtype), EPS)
