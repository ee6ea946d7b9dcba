"""Which token comes next."""

from __future__ import annotations

import random
from collections.abc import Sequence as Many

import torch

from workbench.config import Workload
from workbench.engines.reference.sequences import Sequence


class Sampler:
    """Chooses by a workload's rules. A request's random numbers are its own, so no batch changes its answer."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._temperature = max(workload.temperature, torch.finfo(torch.float32).tiny)

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always chosen."""
        return self._workload.temperature == 0

    def __call__(self, logits: torch.Tensor, sequences: Many[Sequence]) -> torch.Tensor:
        """Gives the next token of each sequence: [S, V] -> [S]."""
        if self.is_greedy:
            return logits.max(dim=-1).indices  # the first of equal ones, as argmax; on the CPU it takes a quarter
        behind = logits.float() - logits.max(dim=-1, keepdim=True).values  # what is divided must not become infinite
        shares, tokens = (behind / self._temperature).softmax(dim=-1).sort(dim=-1, descending=True)
        kept = self._kept(shares)
        reached, last = kept.cumsum(dim=-1), (kept > 0).sum(dim=-1, keepdim=True) - 1
        drawn = torch.tensor([self._number(sequence) for sequence in sequences], device=logits.device)
        place = torch.searchsorted(reached, drawn[:, None] * reached[:, -1:], right=True)
        return tokens.gather(1, place.minimum(last))[:, 0]  # a number next to 1 may become 1 in float32

    def _kept(self, shares: torch.Tensor) -> torch.Tensor:
        """Shares, the largest first, with those left out that top-k and top-p exclude; the largest always stays."""
        if self._workload.top_k is not None:
            shares[:, self._workload.top_k :] = 0
        if self._workload.top_p < 1:
            before = shares.cumsum(dim=-1) - shares
            total = shares.sum(dim=-1, keepdim=True)
            is_out = before >= self._workload.top_p * total
            is_out[:, 0] = False  # also where a top-p is so small that nothing is below it
            shares = shares.masked_fill(is_out, 0)
        return shares

    def _number(self, sequence: Sequence) -> float:
        """A random number that is the same whenever this token of this request is drawn."""
        return random.Random(f"{self._workload.seed} {sequence.index} {sequence.answered}").random()
