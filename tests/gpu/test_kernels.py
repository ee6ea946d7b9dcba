"""Each kernel held to its twin on a CUDA device."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

from workbench.kernels.paged_attention import attend_decode, attend_decode_twin  # noqa: E402

from tests import kernel_cases  # noqa: E402

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
CASES = {**kernel_cases.SMALL, **kernel_cases.LARGE}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_a_kernel_agrees_with_its_twin(name: str, dtype: Any) -> None:
    torch.manual_seed(0)
    CASES[name](kernel_cases.Place("cuda", dtype))


@pytest.mark.parametrize("shape", [kernel_cases.SMOLLM2, kernel_cases.QWEN3])
@pytest.mark.parametrize("most_blocks", [2, 256])  # in one split, and in many
def test_a_captured_decode_follows_the_lengths(shape: kernel_cases.Shape, most_blocks: int) -> None:
    torch.manual_seed(0)
    place = kernel_cases.Place("cuda", torch.bfloat16)
    longest = most_blocks * 16
    sequences = kernel_cases.paged(shape, [longest] * 3, most_blocks, place)
    q = place.random(3, shape.heads, shape.size)
    attend_decode(q, *sequences, 0.1)  # compiles it: nothing is loaded while a graph is captured
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = attend_decode(q, *sequences, 0.1)
    for lengths in ([longest, 1, 0], [0, 0, 31], [17, longest // 2, longest]):
        sequences.lengths.copy_(place.whole(lengths))
        graph.replay()
        kernel_cases.agree(out, attend_decode_twin(q, *sequences, 0.1), place)
