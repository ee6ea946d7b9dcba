"""One step's chunks as arrays: what the model and its attention need to know of them."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.engines.reference.blocks import BLOCK_SIZE
from workbench.engines.reference.sequences import Chunk, Sequence

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """T tokens of S sequences; those with the fewest come first."""

    tokens: Ints  # [T]
    positions: Ints  # [T]
    slots: Ints  # [T] where their keys and values go
    starts: Ints  # [S + 1] the first row of each sequence, and T
    lengths: Ints  # [S] tokens in the cache once this step is done
    tables: Ints  # [S, blocks of the longest] blocks, 0 where a sequence has no more
    seats: Ints  # [S] the row of each in the tables of all seats
    news: Ints  # [2, N] what changed in those since the last batch: the place in them, row by row, and the block there
    singles: int  # sequences with one token

    @property
    def last_rows(self) -> Ints:
        """The row of each sequence's last token."""
        return self.starts[1:] - 1


class Tables:
    """The blocks of every seated sequence, a row a seat, kept from step to step."""

    def __init__(self, seats: int, most_blocks: int) -> None:
        self._blocks = np.zeros((seats, most_blocks), np.int64)
        self._learned: list[list[int]] = [[] for _ in range(seats)]  # whose blocks each row has: a sequence's own list
        self._known = [0] * seats
        self._news: list[tuple[int, int]] = []

    def batch(self, chunks: Many[Chunk]) -> Batch:
        """Gives the arrays of these chunks, the shortest first."""
        for chunk in chunks:
            self._learn(chunk.sequence)
        seats = np.array([chunk.sequence.seat for chunk in chunks])
        counts = np.array([chunk.count for chunk in chunks])
        firsts = np.array([chunk.start for chunk in chunks])
        starts = np.concatenate([[0], np.cumsum(counts)])
        positions = np.arange(starts[-1]) + np.repeat(firsts - starts[:-1], counts)
        blocks = self._blocks[np.repeat(seats, counts), positions // BLOCK_SIZE]
        lengths = firsts + counts
        return Batch(
            tokens=np.array([token for chunk in chunks for token in chunk.sequence.tokens[chunk.start : chunk.end]]),
            positions=positions,
            slots=blocks * BLOCK_SIZE + positions % BLOCK_SIZE,
            starts=starts,
            lengths=lengths,
            tables=self._blocks[seats, : -(-int(lengths.max()) // BLOCK_SIZE)],
            seats=seats,
            news=self._take_news(),
            singles=int((counts == 1).sum()),
        )

    def _learn(self, sequence: Sequence) -> None:
        seat, blocks = sequence.seat, sequence.blocks
        if self._learned[seat] is not blocks:  # whoever is seated, also anew, gets a list of its own, which only grows
            self._learned[seat], self._known[seat] = blocks, 0
        known, count = self._known[seat], len(blocks)
        if known < count:
            self._blocks[seat, known:count] = blocks[known:]
            self._known[seat] = count
            first = seat * self._blocks.shape[1]
            self._news.extend((first + index, blocks[index]) for index in range(known, count))

    def _take_news(self) -> Ints:
        news, self._news = self._news, []
        return np.array(news, np.int64).reshape(-1, 2).T


def shortest_first(chunks: Many[Chunk]) -> list[Chunk]:
    """Gives the chunks in the order that a batch has them."""
    return sorted(chunks, key=lambda chunk: chunk.count)
