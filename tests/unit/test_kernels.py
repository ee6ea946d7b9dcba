"""The kernels held to their twins in Triton's interpreter, and the twins to what torch and transformers compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch.testing import assert_close
from workbench.kernels.layout import slots_of
from workbench.kernels.norm import rms_norm, rms_norm_twin
from workbench.kernels.paged_attention import attend_decode, attend_decode_twin, attend_prefill_twin, splits_of
from workbench.kernels.rotary import rotated_twin

from tests import kernel_cases

NAMES = [f"{name}, {dtype}" for dtype, cases in kernel_cases.INTERPRETED.items() for name in cases]
CPU = kernel_cases.Place("cpu", torch.float32)
SHAPE = kernel_cases.Shape(6, 2, 32)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """What went wrong with each case, in a process of its own because the interpreter is chosen for all of one."""
    command = [sys.executable, kernel_cases.__file__]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, stdout=subprocess.PIPE, check=True)
    failures: dict[str, str] = json.loads(done.stdout)
    return failures


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed, so there is no interpreter")
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_agrees_with_its_twin(name: str, outcomes: dict[str, str]) -> None:
    assert outcomes[name] == ""


def test_twins_need_no_triton() -> None:
    without = "import sys; sys.modules['triton'] = None; from workbench.kernels import "
    subprocess.run([sys.executable, "-c", without + "gate, norm, paged_attention, rotary"], check=True)


def test_the_norm_is_torch_s() -> None:
    x, weight = torch.randn(3, 40), torch.randn(40)
    normed, residual = rms_norm_twin(x, weight, 1e-6)
    assert residual is x
    assert_close(normed, torch.nn.functional.rms_norm(x, (40,), weight, 1e-6))


def test_the_norm_is_of_the_sum_as_the_residual_holds_it() -> None:
    x, residual, weight = (torch.randn(3, 40).bfloat16() for _ in range(3))
    total = x + residual
    normed, same = rms_norm_twin(x, weight[0], 1e-6, residual)
    assert same is residual
    assert_close(residual, total, atol=0, rtol=0)
    assert_close(normed, rms_norm_twin(total, weight[0], 1e-6)[0], atol=0, rtol=0)


def test_heads_turn_as_in_transformers() -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k, angles = torch.randn(5, 6, 32), torch.randn(5, 2, 32), torch.randn(5, 16)
    cos, sin = (torch.cat((each, each), dim=1).unsqueeze(0) for each in (angles.cos(), angles.sin()))
    theirs = apply_rotary_pos_emb(q.transpose(0, 1).unsqueeze(0), k.transpose(0, 1).unsqueeze(0), cos, sin)
    for mine, other in zip((q, k), theirs, strict=True):
        assert_close(rotated_twin(mine, angles.cos()[:, None], angles.sin()[:, None]), other[0].transpose(0, 1))


def test_prefill_is_torch_s_attention_over_the_sequence_s_slots() -> None:
    sequences, rows = kernel_cases.paged(SHAPE, [40, 21], 4, CPU), [40, 5]
    q = torch.randn(45, SHAPE.heads, SHAPE.size)
    mine = attend_prefill_twin(q, *sequences, torch.tensor([0, 40, 45]), 40, 0.3)
    for row, length, each, of in zip(range(2), [40, 21], torch.split(mine, rows), torch.split(q, rows), strict=True):
        keys, values = sequences.cache[slots_of(sequences.block_table[row], length)].permute(1, 2, 0, 3)
        is_seen = torch.ones(len(of), length, dtype=torch.bool).tril(length - len(of))
        theirs = torch.nn.functional.scaled_dot_product_attention(
            of.transpose(0, 1), keys, values, is_seen, scale=0.3, enable_gqa=True
        )
        assert_close(each, theirs.transpose(0, 1))


def test_decode_is_the_last_row_of_prefill() -> None:
    sequences = kernel_cases.paged(SHAPE, [40, 0, 21], 4, CPU)
    q = torch.randn(3, SHAPE.heads, SHAPE.size)
    mine = attend_decode_twin(q, *sequences, 0.3)
    assert_close(mine, attend_prefill_twin(q, *sequences, torch.arange(4), 1, 0.3))
    assert not mine[1].any()


@pytest.mark.parametrize(
    ("programs", "tiles", "splits"), [(1, 64, 64), (1, 1000, 64), (8, 5, 8), (512, 64, 2), (2048, 64, 1)]
)
def test_sequences_are_split_until_the_device_is_full(programs: int, tiles: int, splits: int) -> None:
    assert splits_of(programs, tiles) == splits


def test_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x of shape \(4, 2\) is not contiguous"):
        rms_norm(torch.empty(2, 4).T, torch.empty(2), 1e-6)
    sequences = kernel_cases.paged(SHAPE, [40], 4, CPU)
    with pytest.raises(ValueError, match="rows of the block table"):
        attend_decode(torch.empty(1, 6, 32), sequences.cache, sequences.block_table[:, ::2], sequences.lengths, 0.3)
