"""RMS norm, with the residual added on the way."""

from __future__ import annotations

import torch
from torch import Tensor

from .layout import padded, require_contiguous


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gives the norm of x [T, H] and the residual, to which x is added in place before; without one, x becomes it."""
    from . import triton_norm

    require_contiguous(x=x, weight=weight, residual=residual, out=out)
    rows, hidden = x.shape
    out = torch.empty_like(x) if out is None else out
    tile = padded(hidden)
    triton_norm.rms_norm_kernel[(rows,)](
        x, weight, residual, out, eps, hidden, tile, residual is not None, num_warps=min(max(tile // 256, 4), 16)
    )
    return out, x if residual is None else residual


def rms_norm_twin(
    x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gives what `rms_norm` gives, by plain torch."""
    if residual is None:
        residual = x
    else:
        residual.copy_(residual.float() + x.float())
    normed = normed_twin(residual.float(), weight, eps).to(x.dtype)
    return (normed if out is None else out.copy_(normed)), residual


def normed_twin(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Gives the RMS norm of fp32 numbers over their last dimension, in fp32."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.float()
