"""The kernel of `norm.py`. Imported when it is first launched, because it needs triton."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
# A kernel's parameters have no Python types: they are pointers and numbers, and in capitals what its compiler knows.

import triton
import triton.language as tl


@triton.jit
def rms_norm_kernel(x, weight, residual, out, eps, H: tl.constexpr, H_TILE: tl.constexpr, HAS_RESIDUAL: tl.constexpr):
    """Norms one row [H] a program; the norm is of the sum as the residual's dtype can hold it."""
    column = tl.arange(0, H_TILE)
    inside = column < H
    place = tl.program_id(0).to(tl.int64) * H + column
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        value += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
        stored = value.to(residual.dtype.element_ty)
        tl.store(residual + place, stored, mask=inside)
        value = stored.to(tl.float32)
    inverse = 1.0 / tl.sqrt(tl.sum(value * value, axis=0) / H + eps)
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, (value * inverse * scale).to(out.dtype.element_ty), mask=inside)
