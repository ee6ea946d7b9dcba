"""The kernel of `rotary.py`. Imported when it is first launched, because it needs triton."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806
# A kernel's parameters have no Python types: they are pointers and numbers, and in capitals what its compiler knows.

import triton
import triton.language as tl


@triton.jit
def rotate_and_store_kernel(
    qkv, positions, slots, cos_sin, cache, q_norm, k_norm, out, eps,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr,
    HEADS_TILE: tl.constexpr, KV_TILE: tl.constexpr, HALF_TILE: tl.constexpr,
    HAS_Q_NORM: tl.constexpr, HAS_K_NORM: tl.constexpr,
):  # fmt: skip
    """Rotates one token's queries in one program, and its keys in another, which stores its values too."""
    token = tl.program_id(0).to(tl.int64)
    row = qkv + token * ((HEADS + 2 * KV_HEADS) * D)
    angles = cos_sin + tl.load(positions + token).to(tl.int64) * D
    if tl.program_id(1) == 0:
        rotate(row, out + token * (HEADS * D), angles, q_norm, eps, HEADS, D, HEADS_TILE, HALF_TILE, HAS_Q_NORM)
    else:
        slot = tl.load(slots + token).to(tl.int64)
        if slot >= 0:
            place = cache + slot * (2 * KV_HEADS * D)
            rotate(row + HEADS * D, place, angles, k_norm, eps, KV_HEADS, D, KV_TILE, HALF_TILE, HAS_K_NORM)
            copy(row + (HEADS + KV_HEADS) * D, place + KV_HEADS * D, KV_HEADS, D, KV_TILE, 2 * HALF_TILE)


@triton.jit
def rotate(
    source, target, angles, weight, eps,
    HEADS: tl.constexpr, D: tl.constexpr, HEADS_TILE: tl.constexpr, HALF_TILE: tl.constexpr, HAS_NORM: tl.constexpr,
):  # fmt: skip
    """Norms heads [HEADS, D], if they have a norm, and turns them by one position's angles."""
    HALF: tl.constexpr = D // 2
    dim = tl.arange(0, HALF_TILE)
    head = tl.arange(0, HEADS_TILE)
    place = head[:, None] * D + dim[None, :]
    inside = (head[:, None] < HEADS) & (dim[None, :] < HALF)
    first = tl.load(source + place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + place + HALF, mask=inside, other=0.0).to(tl.float32)
    if HAS_NORM:
        squares = tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)
        inverse = (1.0 / tl.sqrt(squares / D + eps))[:, None]
        first *= inverse * tl.load(weight + dim, mask=dim < HALF, other=0.0).to(tl.float32)[None, :]
        second *= inverse * tl.load(weight + HALF + dim, mask=dim < HALF, other=0.0).to(tl.float32)[None, :]
    cos = tl.load(angles + dim, mask=dim < HALF, other=0.0)[None, :]
    sin = tl.load(angles + HALF + dim, mask=dim < HALF, other=0.0)[None, :]
    tl.store(target + place, (first * cos - second * sin).to(target.dtype.element_ty), mask=inside)
    tl.store(target + place + HALF, (second * cos + first * sin).to(target.dtype.element_ty), mask=inside)


@triton.jit
def copy(source, target, HEADS: tl.constexpr, D: tl.constexpr, HEADS_TILE: tl.constexpr, D_TILE: tl.constexpr):
    """Copies heads [HEADS, D]."""
    dim = tl.arange(0, D_TILE)
    head = tl.arange(0, HEADS_TILE)
    place = head[:, None] * D + dim[None, :]
    inside = (head[:, None] < HEADS) & (dim[None, :] < D)
    value = tl.load(source + place, mask=inside, other=0.0)
    tl.store(target + place, value.to(target.dtype.element_ty), mask=inside)
