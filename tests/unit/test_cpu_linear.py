"""Matrices on the CPU by every way there is: the numbers of float32, whatever the shape, and nothing beyond the end."""

from __future__ import annotations

import ctypes
import json
import mmap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.testing import assert_close
from workbench.kernels import cpu_linear
from workbench.kernels.cpu_linear import PairedLinear, TiledLinear

from tests.probes import Notes
from tests.reference import loaded
from workbench.engines.reference.cpu_matrices import PackedLinear, PlainLinear, has_onednn_for, prepared

PAGE = mmap.PAGESIZE
SIDES = [(32, 32), (33, 33), (47, 63), (960, 576), (577, 101), (80, 1536)]  # outputs, numbers of a row
ROWS = [*range(1, 20), 31, 32, 33, 48, 49, 64, 65, 300]

needs_tiles = pytest.mark.skipif(not cpu_linear.has_tiles(), reason="this processor has no tiles (AMX)")
needs_pairs = pytest.mark.skipif(
    not cpu_linear.has_pairs(), reason="this processor has no products of pairs (AVX512-BF16)"
)
needs_onednn = pytest.mark.skipif(not has_onednn_for(torch.bfloat16), reason="oneDNN has no bfloat16 here")
OWN = [pytest.param(TiledLinear, marks=needs_tiles), pytest.param(PairedLinear, marks=needs_pairs)]
WAYS = [PlainLinear, pytest.param(PackedLinear, marks=needs_onednn), *OWN]


def close(found: torch.Tensor, x: torch.Tensor, matrix: torch.Tensor, plus: torch.Tensor | None) -> None:
    wanted = F.linear(x.float(), matrix.float())
    wanted = wanted if plus is None else wanted + plus.float()
    assert_close(found.float(), wanted, rtol=8e-3, atol=4e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [1, 16, 300])
@pytest.mark.parametrize("has_plus", [False, True])
def test_every_way_gives_the_same(way: type, rows: int, has_plus: bool) -> None:
    x, matrix = torch.randn(rows, 96).bfloat16(), torch.randn(100, 96).bfloat16()
    plus = torch.randn(rows, 100).bfloat16() if has_plus else None
    linear, out = way(matrix), torch.full((rows, 100), torch.nan).bfloat16()
    close(linear(x, plus), x, matrix, plus)
    assert linear(x, plus, out) is out
    close(out, x, matrix, plus)


@needs_onednn
def test_matrices_that_no_kernel_of_ours_serves_are_packed() -> None:
    for matrix in (torch.ones(64, 64), torch.ones(64, 31).bfloat16()):
        assert isinstance(prepared(matrix), PackedLinear)


def test_what_multiplies_follows_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.ones(64, 64).bfloat16()
    for tiles, pairs in [(True, True), (False, True), (False, False)]:
        monkeypatch.setattr(cpu_linear, "has_tiles", lambda tiles=tiles: tiles)
        monkeypatch.setattr(cpu_linear, "has_pairs", lambda pairs=pairs: pairs)
        assert (TiledLinear.serves(matrix), PairedLinear.serves(matrix)) == (tiles, pairs)


@needs_pairs
@needs_onednn
def test_a_run_says_every_way_that_was_chosen(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of an odd hidden size have no pairs; those that attention and the gate give do."""
    monkeypatch.setattr(cpu_linear, "has_tiles", lambda: False)
    config = json.loads((tiny_model / "config.json").read_text())
    for hidden, ways in [(63, "onednn, pairs"), (64, "pairs")]:
        (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": hidden, "head_dim": 16}))
        notes = Notes()
        loaded(tmp_path, notes, "bfloat16")
        assert notes.said["engine"]["matrices"] == ways


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_type_of_number_has_a_way_on_every_processor(dtype: torch.dtype) -> None:
    x, matrix = torch.randn(3, 65).to(dtype), torch.randn(31, 65).to(dtype)
    close(prepared(matrix)(x), x, matrix, None)


@pytest.mark.parametrize(("bits", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_what_a_processor_has_no_instructions_for_is_not_packed(
    bits: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, f"_is_mkldnn_{bits}_supported", lambda: False)
    assert isinstance(prepared(torch.ones(31, 63, dtype=dtype)), PlainLinear)


@needs_tiles
def test_no_copy_is_made_of_a_matrix_that_tiles_serve() -> None:
    assert isinstance(prepared(torch.ones(64, 64).bfloat16()), TiledLinear)


def before_the_end(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same numbers, after which comes a page that must not be touched; and all that lies before that page."""
    pages = -(-numbers.nbytes // PAGE) + 1
    memory = mmap.mmap(-1, (pages + 1) * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole = torch.frombuffer(memory, dtype=numbers.dtype)[: pages * PAGE // numbers.itemsize]
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(whole.data_ptr() + whole.nbytes), PAGE, 0) == 0
    last = whole[len(whole) - numbers.numel() :].view(numbers.shape)
    return last.copy_(numbers), whole


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_our_kernels_stay_within_their_memory(sides: tuple[int, int], threads: int, own: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    outputs, size = sides
    matrix, _ = before_the_end(torch.randn(sides).bfloat16())
    if not own.serves(matrix):
        pytest.skip("an odd number of numbers in a row has no pairs")
    linear = own(matrix)
    for rows in ROWS:
        x, _ = before_the_end(torch.randn(rows, size).bfloat16())
        plus, _ = before_the_end(torch.randn(rows, outputs).bfloat16())
        out, whole = before_the_end(torch.zeros(rows, outputs).bfloat16())
        ahead = whole[: len(whole) - out.numel()].fill_(7)
        for each in (None, plus):
            close(linear(x, each, out), x, matrix, each)
            assert bool((ahead == 7).all())
    torch.set_num_threads(before)


@pytest.mark.parametrize("own", OWN)
def test_what_does_not_fit_is_refused(own: Any) -> None:
    linear = own(torch.ones(64, 64).bfloat16())
    with pytest.raises(ValueError, match=r"x of shape .* is not contiguous"):
        linear(torch.ones(2, 128).bfloat16()[:, ::2])
    for x in (torch.ones(2, 64), torch.ones(2, 32).bfloat16()):
        with pytest.raises(ValueError, match=r"does not fit a matrix \(64, 64\)"):
            linear(x)
    x = torch.ones(2, 64).bfloat16()
    for wrong in (torch.ones(2, 64), torch.ones(1, 64).bfloat16(), torch.ones(2, 63).bfloat16()):
        with pytest.raises(ValueError, match=r"plus .* does not fit a matrix \(64, 64\)"):
            linear(x, wrong)
        with pytest.raises(ValueError, match=r"out .* does not fit a matrix \(64, 64\)"):
            linear(x, None, wrong)
    with pytest.raises(ValueError, match=r"out of shape .* is not contiguous"):
        linear(x, None, torch.ones(64, 2).bfloat16().t())
