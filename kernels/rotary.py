"""Rotary positions for queries and keys, which puts keys and values into the cache as well."""

from __future__ import annotations

import torch
from torch import Tensor

from .layout import padded, require_contiguous
from .norm import normed_twin


def rotate_and_store(
    qkv: Tensor,  # [T, (Hq + 2 * KV) * D]
    positions: Tensor,  # [T]
    slots: Tensor,  # [T]
    cos_sin: Tensor,  # [positions, D], fp32: cosines, then sines
    cache: Tensor,  # [slots, 2, KV, D]
    q_norm: Tensor | None,  # [D]
    k_norm: Tensor | None,  # [D]
    eps: float,
    heads: int,
    kv_heads: int,
    out: Tensor | None = None,
) -> Tensor:
    """Gives the rotated queries [T, Hq, D], and writes keys and values into their slots; slot -1 takes none."""
    from . import triton_rotary

    require_contiguous(qkv=qkv, positions=positions, slots=slots, cos_sin=cos_sin, cache=cache, out=out)
    rows, size = qkv.shape[0], cache.shape[-1]
    out = qkv.new_empty(rows, heads, size) if out is None else out
    triton_rotary.rotate_and_store_kernel[(rows, 2)](
        qkv, positions, slots, cos_sin, cache, q_norm, k_norm, out, eps,
        heads, kv_heads, size, padded(heads), padded(kv_heads), padded(size // 2),
        q_norm is not None, k_norm is not None, num_warps=4,
    )  # fmt: skip
    return out


def rotate_and_store_twin(
    qkv: Tensor,
    positions: Tensor,
    slots: Tensor,
    cos_sin: Tensor,
    cache: Tensor,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    heads: int,
    kv_heads: int,
    out: Tensor | None = None,
) -> Tensor:
    """Gives what `rotate_and_store` gives, by plain torch."""
    each = qkv.view(len(qkv), -1, cache.shape[-1])  # [T, Hq + 2 * KV, D]
    q, k, v = torch.split(each.float(), [heads, kv_heads, kv_heads], dim=1)
    q = q if q_norm is None else normed_twin(q, q_norm, eps)
    k = k if k_norm is None else normed_twin(k, k_norm, eps)
    cos, sin = cos_sin[positions.long()].unsqueeze(1).chunk(2, dim=-1)  # [T, 1, D / 2] each
    is_stored = slots >= 0
    cache[slots[is_stored]] = torch.stack((rotated_twin(k, cos, sin), v), dim=1)[is_stored].to(cache.dtype)
    turned = rotated_twin(q, cos, sin).to(qkv.dtype)
    return turned if out is None else out.copy_(turned)


def rotated_twin(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Gives x [T, heads, D] turned by its positions' angles, dimension i together with dimension i + D / 2."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
