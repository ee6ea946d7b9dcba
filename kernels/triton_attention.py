"""The kernels of `paged_attention.py`. Imported when they are first launched, because they need triton."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806
# A kernel's parameters have no Python types: they are pointers and numbers, and in capitals what its compiler knows.

import triton
import triton.language as tl


@triton.jit
def fold_in(
    q,  # [ROWS, D_TILE], in the cache's dtype
    best, total, weighted,  # [ROWS], [ROWS], [ROWS, D_TILE], fp32: the softmax so far and what it gathered
    head,  # the kv head's keys in slot 0
    blocks,  # the sequence's row of the block table
    first,  # position of the tile's first token
    end,  # the first position not to be read
    limits,  # [ROWS]: the first position that each row does not see
    scale,  # of the scores, whose exponentials have base 2
    KV_HEADS: tl.constexpr, D: tl.constexpr, D_TILE: tl.constexpr, BLOCK_SIZE: tl.constexpr, TOKENS: tl.constexpr,
    HAS_LIMITS: tl.constexpr,  # false where every row sees the whole tile
):  # fmt: skip
    """Adds one tile of tokens to a running softmax.

    tf32x3 is how fp32 is multiplied: by three passes of tensor cores, nearly as exact as without. 16 bits ignore it.
    """
    token = first + tl.arange(0, TOKENS)
    dim = tl.arange(0, D_TILE)
    is_read = token < end
    block = tl.load(blocks + token // BLOCK_SIZE, mask=is_read, other=0)
    slot = block.to(tl.int64) * BLOCK_SIZE + token % BLOCK_SIZE
    place = head + slot * (2 * KV_HEADS * D)
    keys = tl.load(place[None, :] + dim[:, None], mask=is_read[None, :] & (dim[:, None] < D), other=0.0)
    scores = tl.dot(q, keys, input_precision="tf32x3") * scale
    if HAS_LIMITS:
        scores = tl.where(token[None, :] < limits[:, None], scores, float("-inf"))
    new_best = tl.maximum(best, tl.max(scores, axis=1))
    weights = tl.exp2(scores - new_best[:, None])
    shrink = tl.exp2(best - new_best)
    values = tl.load(
        place[:, None] + (KV_HEADS * D + dim)[None, :], mask=is_read[:, None] & (dim[None, :] < D), other=0.0
    )
    weighted = tl.dot(weights.to(values.dtype), values, weighted * shrink[:, None], input_precision="tf32x3")
    return new_best, total * shrink + tl.sum(weights, axis=1), weighted


@triton.jit
def tokens_a_split(length, SPLITS: tl.constexpr, TOKENS: tl.constexpr):
    """Gives how many tokens each split of a sequence reads: whole tiles, and at least one."""
    return tl.cdiv(tl.cdiv(tl.maximum(length, 1), TOKENS), SPLITS) * TOKENS


@triton.jit(do_not_specialize=["table_stride"])
def decode_kernel(
    q, cache, block_table, lengths,
    partials,  # [B, HEADS, SPLITS, D]
    exponents,  # [B, HEADS, SPLITS]: the weight of each partial, as a power of two
    scale, table_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, D_TILE: tl.constexpr, GROUP_TILE: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK_SIZE: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Attends with all query heads of one kv head to one split of one sequence."""
    sequence = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    length = tl.load(lengths + sequence)
    share = tokens_a_split(length, SPLITS, TOKENS)
    first = split * share
    if first >= tl.maximum(length, 1):  # split 0 stays: it writes the zeros of an empty sequence
        return

    GROUP: tl.constexpr = HEADS // KV_HEADS
    row = tl.arange(0, GROUP_TILE)
    dim = tl.arange(0, D_TILE)
    inside = (row[:, None] < GROUP) & (dim[None, :] < D)
    head = sequence * HEADS + kv_head * GROUP + row
    queries = tl.load(q + head[:, None] * D + dim[None, :], mask=inside, other=0.0).to(cache.dtype.element_ty)

    best = tl.full([GROUP_TILE], float("-inf"), tl.float32)
    total = tl.zeros([GROUP_TILE], tl.float32)
    weighted = tl.zeros([GROUP_TILE, D_TILE], tl.float32)
    end = tl.minimum(first + share, length)
    limits = end + tl.zeros([GROUP_TILE], tl.int32)
    for tile in range(first, end, TOKENS):
        best, total, weighted = fold_in(
            queries, best, total, weighted, cache + kv_head * D, block_table + sequence * table_stride,
            tile, end, limits, scale, KV_HEADS, D, D_TILE, BLOCK_SIZE, TOKENS, True,
        )  # fmt: skip

    safe_total = tl.where(total > 0, total, 1.0)
    partial = head * SPLITS + split
    result = (weighted / safe_total[:, None]).to(partials.dtype.element_ty)
    tl.store(partials + partial[:, None] * D + dim[None, :], result, mask=inside)
    if SPLITS > 1:
        tl.store(exponents + partial, best + tl.log2(safe_total), mask=row < GROUP)


@triton.jit
def combine_kernel(
    partials, exponents, lengths, out,
    HEADS: tl.constexpr, D: tl.constexpr, D_TILE: tl.constexpr, SPLITS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Sums the partials of one query head, without those that no program wrote."""
    sequence = tl.program_id(0).to(tl.int64)
    head = sequence * HEADS + tl.program_id(1)
    length = tl.load(lengths + sequence)
    split = tl.arange(0, SPLITS)
    dim = tl.arange(0, D_TILE)
    written = split * tokens_a_split(length, SPLITS, TOKENS) < length
    exponent = tl.load(exponents + head * SPLITS + split, mask=written, other=float("-inf"))
    best = tl.max(exponent, axis=0)
    weight = tl.exp2(exponent - tl.where(best > float("-inf"), best, 0.0))
    total = tl.sum(weight, axis=0)
    partial = tl.load(
        partials + (head * SPLITS + split)[:, None] * D + dim[None, :],
        mask=written[:, None] & (dim[None, :] < D),
        other=0.0,
    )
    result = tl.sum(partial * weight[:, None], axis=0) / tl.where(total > 0, total, 1.0)
    tl.store(out + head * D + dim, result.to(out.dtype.element_ty), mask=dim < D)


@triton.jit(do_not_specialize=["table_stride"])
def prefill_kernel(
    q, cache, block_table, lengths, starts, out, scale, table_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, D_TILE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Attends with one query head of a tile of a sequence's rows to all that they see."""
    sequence = tl.program_id(2).to(tl.int64)
    start = tl.load(starts + sequence)
    rows = tl.load(starts + sequence + 1) - start
    first_row = (tl.num_programs(0) - 1 - tl.program_id(0)) * ROWS  # the last rows see the most, so they go first
    if first_row >= rows:
        return

    length = tl.load(lengths + sequence)
    head = tl.program_id(1)
    kv_head = head // (HEADS // KV_HEADS)
    row = first_row + tl.arange(0, ROWS)
    dim = tl.arange(0, D_TILE)
    inside = (row[:, None] < rows) & (dim[None, :] < D)
    place = ((start + row).to(tl.int64) * HEADS + head)[:, None] * D + dim[None, :]
    queries = tl.load(q + place, mask=inside, other=0.0).to(cache.dtype.element_ty)

    best = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    weighted = tl.zeros([ROWS, D_TILE], tl.float32)
    limits = length - rows + row + 1
    end = tl.minimum(length, length - rows + first_row + ROWS)
    seen_by_all = (length - rows + first_row + 1) // TOKENS * TOKENS
    for tile in range(0, seen_by_all, TOKENS):
        best, total, weighted = fold_in(
            queries, best, total, weighted, cache + kv_head * D, block_table + sequence * table_stride,
            tile, end, limits, scale, KV_HEADS, D, D_TILE, BLOCK_SIZE, TOKENS, False,
        )  # fmt: skip
    for tile in range(seen_by_all, end, TOKENS):
        best, total, weighted = fold_in(
            queries, best, total, weighted, cache + kv_head * D, block_table + sequence * table_stride,
            tile, end, limits, scale, KV_HEADS, D, D_TILE, BLOCK_SIZE, TOKENS, True,
        )  # fmt: skip

    safe_total = tl.where(total > 0, total, 1.0)
    tl.store(out + place, (weighted / safe_total[:, None]).to(out.dtype.element_ty), mask=inside)
