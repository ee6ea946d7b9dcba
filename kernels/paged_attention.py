"""Attention over the paged cache: `attend_decode` for one query token a sequence, `attend_prefill` for any number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .layout import BLOCK_SIZE, padded, require_contiguous, require_rows, slots_of

ENOUGH_PROGRAMS = 1024  # fills an H200, of 132 multiprocessors with a few programs on each
MOST_SPLITS = 64
ROWS_A_TILE = 64


def attend_decode(
    q: Tensor,  # [B, Hq, D]
    cache: Tensor,  # [slots, 2, KV, D]
    block_table: Tensor,  # [B, blocks], int32
    lengths: Tensor,  # [B], int32: tokens in the cache, the current one among them
    scale: float,
    out: Tensor | None = None,
) -> Tensor:
    """Gives what one query a sequence reads from the cache [B, Hq, D]; zeros where the length is 0."""
    from . import triton_attention

    require_contiguous(q=q, cache=cache, lengths=lengths, out=out)
    require_rows(block_table)
    out = torch.empty_like(q) if out is None else out
    batch, heads, size = q.shape
    kv_heads, tokens = cache.shape[2], tokens_a_tile(cache)
    splits = splits_of(batch * kv_heads, block_table.shape[1] * BLOCK_SIZE // tokens)
    partials, exponents = (out, None) if splits == 1 else scratch(q, splits)
    triton_attention.decode_kernel[(batch, kv_heads, splits)](
        q, cache, block_table, lengths, partials, exponents, scale * math.log2(math.e), block_table.stride(0),
        heads, kv_heads, size, dot_tile(size), dot_tile(heads // kv_heads), splits, BLOCK_SIZE, tokens,
        num_warps=4, num_stages=stages(cache),
    )  # fmt: skip
    if splits > 1:
        triton_attention.combine_kernel[(batch, heads)](
            partials, exponents, lengths, out, heads, size, dot_tile(size), splits, tokens, num_warps=4
        )
    return out


def attend_prefill(
    q: Tensor,  # [T, Hq, D]: of every sequence its last tokens
    cache: Tensor,  # [slots, 2, KV, D]
    block_table: Tensor,  # [B, blocks], int32
    lengths: Tensor,  # [B], int32: tokens in the cache, those of q among them
    starts: Tensor,  # [B + 1], int32: rows starts[b] to starts[b + 1] of q are sequence b's
    most_rows: int,  # of one sequence
    scale: float,
    out: Tensor | None = None,
) -> Tensor:
    """Gives what every query reads from the cache [T, Hq, D]: its sequence up to and with itself."""
    from . import triton_attention

    require_contiguous(q=q, cache=cache, lengths=lengths, starts=starts, out=out)
    require_rows(block_table)
    out = torch.empty_like(q) if out is None else out
    _, heads, size = q.shape
    grid = (-(-most_rows // ROWS_A_TILE), heads, lengths.shape[0])
    triton_attention.prefill_kernel[grid](
        q, cache, block_table, lengths, starts, out, scale * math.log2(math.e), block_table.stride(0),
        heads, cache.shape[2], size, dot_tile(size), BLOCK_SIZE, ROWS_A_TILE, tokens_a_tile(cache),
        num_warps=4, num_stages=stages(cache),
    )  # fmt: skip
    return out


def scratch(q: Tensor, splits: int) -> tuple[Tensor, Tensor]:
    """Gives room for the partials [B, Hq, splits, D] of a split attention, and for their exponents."""
    batch, heads, size = q.shape
    partials = q.new_empty(batch, heads, splits, size, dtype=torch.float32)
    return partials, q.new_empty(batch, heads, splits, dtype=torch.float32)


def dot_tile(size: int) -> int:
    """Gives the tile that a size fits in and that `tl.dot` takes."""
    return max(padded(size), 16)


def tokens_a_tile(cache: Tensor) -> int:
    """Gives how many tokens a program reads at a time: what shared memory holds of keys and values."""
    return 64 if cache.element_size() <= 2 else 32


def stages(cache: Tensor) -> int:
    """Gives how many tiles are under way at a time."""
    return 3 if cache.element_size() <= 2 else 2


def splits_of(programs: int, tiles: int) -> int:
    """Gives over how many programs a sequence is split, from shapes alone: a captured graph keeps its grid.

    It is a power of two, because every other number would be compiled once more.
    """
    return min(padded(-(-ENOUGH_PROGRAMS // programs)), padded(max(tiles, 1)), MOST_SPLITS)


def attend_decode_twin(
    q: Tensor, cache: Tensor, block_table: Tensor, lengths: Tensor, scale: float, out: Tensor | None = None
) -> Tensor:
    """Gives what `attend_decode` gives, by plain torch."""
    starts = torch.arange(len(q) + 1)
    return attend_prefill_twin(q, cache, block_table, lengths, starts, 1, scale, out)


def attend_prefill_twin(
    q: Tensor,
    cache: Tensor,
    block_table: Tensor,
    lengths: Tensor,
    starts: Tensor,
    most_rows: int,
    scale: float,
    out: Tensor | None = None,
) -> Tensor:
    """Gives what `attend_prefill` gives, by plain torch, one sequence after the other."""
    out = torch.empty_like(q) if out is None else out
    begins = starts.tolist()
    for blocks, length, begin, end in zip(block_table, lengths.tolist(), begins, begins[1:], strict=False):
        if length == 0:
            out[begin:end] = 0
        else:
            out[begin:end] = attention_twin(q[begin:end].float(), cache[slots_of(blocks, length)].float(), scale)
    return out


def attention_twin(q: Tensor, tokens: Tensor, scale: float) -> Tensor:
    """Gives the attention [rows, Hq, D] of a sequence's last rows to its tokens [length, 2, KV, D], in fp32."""
    rows, length, kv_heads = len(q), len(tokens), tokens.shape[2]
    keys, values = tokens.unbind(1)
    grouped = q.view(rows, kv_heads, -1, q.shape[2])  # [rows, KV, Hq / KV, D]
    scores = torch.einsum("rkgd,tkd->kgrt", grouped, keys) * scale
    is_seen = torch.ones(rows, length, dtype=torch.bool, device=q.device).tril(length - rows)
    weights = scores.masked_fill(~is_seen, -torch.inf).softmax(-1)
    return torch.einsum("kgrt,tkd->rkgd", weights, values).flatten(1, 2)
