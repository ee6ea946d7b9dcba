"""A workload's sampling in vLLM's terms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import count
from typing import Any

from workbench.config import Workload
from workbench.engines.vllm.refusal import reason
from workbench.errors import UsageError

ALL = 0  # as top_k


def sampling(workload: Workload, has_text: bool, stream: bool) -> Iterator[Any]:
    """Gives the parameters of one request after the other; refuses at once what vLLM does."""
    try:
        return _of_each(workload, _shared(workload, has_text, stream))
    except Exception as error:  # vLLM has more rules than a workload, and no one kind of error
        raise UsageError(f"vLLM takes no such workload: {reason(error)}") from error


def _shared(workload: Workload, has_text: bool, stream: bool) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
        max_tokens=workload.max_tokens,
        temperature=workload.temperature,
        top_k=workload.top_k or ALL,
        top_p=workload.top_p,
        stop=list(workload.stop) if has_text else [],  # no text, no stop in it
        detokenize=has_text,
        ignore_eos=not workload.stop_at_end,
    )


def _of_each(workload: Workload, shared: Any) -> Iterator[Any]:
    """The same object, where nothing is a request's own."""
    for index in count():
        if workload.temperature:  # seeded requests cost vLLM a step each
            shared = shared.clone()
            shared.seed = _seed(workload.seed, index)
        yield shared


def _seed(seed: int, index: int) -> int:
    """Of a request: neighbouring ones have nothing in common, and vLLM has 63 bits for it."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {index}".encode(), digest_size=8).digest()) >> 1
