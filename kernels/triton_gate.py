"""The kernel of `gate.py`. Imported when it is first launched, because it needs triton."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
# A kernel's parameters have no Python types: they are pointers and numbers, and in capitals what its compiler knows.

import triton
import triton.language as tl


@triton.jit
def silu_and_multiply_kernel(gate_up, out, SIZE: tl.constexpr, TILE: tl.constexpr):
    """Computes a tile of one row a program."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = column < SIZE
    gate = tl.load(gate_up + row * (2 * SIZE) + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * (2 * SIZE) + SIZE + column, mask=inside, other=0.0).to(tl.float32)
    product = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + row * SIZE + column, product.to(out.dtype.element_ty), mask=inside)
