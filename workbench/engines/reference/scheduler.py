"""What goes through the model next: continuous batching, prompts in chunks, preemption when blocks run out."""

from __future__ import annotations

from collections import deque

from workbench.engines.reference.blocks import BLOCK_SIZE, BlockPool
from workbench.engines.reference.sequences import Chunk, Sequence


class Scheduler:
    """The requests that wait and those that run, and the blocks that they hold."""

    def __init__(self, pool: BlockPool, max_sequences: int, max_tokens: int) -> None:
        self.pool = pool
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # the longest running first
        self._max_tokens = max_tokens
        self._seats = list(reversed(range(max_sequences)))

    @property
    def has_work(self) -> bool:
        """Whether a request is not answered yet."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Lets a request wait for its turn."""
        self.waiting.append(sequence)

    def schedule(self) -> list[Chunk]:
        """Gives the next step's chunks: first of what runs, then as many new requests as there is room for."""
        chunks: list[Chunk] = []
        budget = self._max_tokens
        before = list(self.running)
        for sequence in before:
            if sequence.seat < 0 or not budget:
                continue  # put back meanwhile by one before it
            if chunk := self._continue(sequence, budget):
                chunks.append(chunk)
                budget -= chunk.count
        if len(self.running) < len(before):
            return chunks  # too little room for those that run: nobody comes to them now
        while budget and self.waiting and self._seats and (chunk := self._admit(self.waiting[0], budget)):
            chunks.append(chunk)
            budget -= chunk.count
        return chunks

    def computed(self, chunk: Chunk) -> None:
        """Takes note that a chunk's keys and values are in its blocks; full ones can be shared from now on."""
        sequence = chunk.sequence
        sequence.computed = chunk.end
        for index in range(chunk.start // BLOCK_SIZE, chunk.end // BLOCK_SIZE):
            self.pool.publish(sequence.blocks[index], sequence.key(index))

    def end(self, sequence: Sequence) -> None:
        """Lets go of a request: it is answered, or nobody wants its answer any more."""
        if sequence.seat < 0:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
            self._stand_up(sequence)

    def _continue(self, sequence: Sequence, budget: int) -> Chunk | None:
        count = min(len(sequence.tokens) - sequence.computed, budget)
        while not self._reach(sequence, sequence.computed + count):
            last = self.running[-1]
            self._put_back(last)
            if last is sequence:
                return None
        return Chunk(sequence, sequence.computed, count)

    def _admit(self, sequence: Sequence, budget: int) -> Chunk | None:
        """Seats a waiting request, with the blocks it can share, unless there are too few free for its first chunk."""
        shared = self._shared(sequence)
        start = len(shared) * BLOCK_SIZE
        count = min(len(sequence.tokens) - start, budget)
        for block in shared:
            self.pool.share(block)
        sequence.blocks = shared
        if not self._reach(sequence, start + count):
            self.pool.give_back(sequence.blocks)
            sequence.blocks = []
            return None
        self.waiting.popleft()
        self.running.append(sequence)
        sequence.seat, sequence.computed = self._seats.pop(), start
        return Chunk(sequence, start, count)

    def _shared(self, sequence: Sequence) -> list[int]:
        """The blocks with the tokens that it begins with; its last token is left, for the model must answer it."""
        shared: list[int] = []
        for index in range((len(sequence.tokens) - 1) // BLOCK_SIZE):
            block = self.pool.find(sequence.key(index))
            if block is None:
                break
            shared.append(block)
        return shared

    def _reach(self, sequence: Sequence, length: int) -> bool:
        """Lends it the blocks for so many tokens, all or none."""
        missing = -(-length // BLOCK_SIZE) - len(sequence.blocks)
        if missing > self.pool.free:
            return False
        sequence.blocks.extend(self.pool.take() for _ in range(missing))
        return True

    def _put_back(self, sequence: Sequence) -> None:
        """Takes everything from a running request; it begins anew, with what it has answered, once there is room."""
        self.running.remove(sequence)
        self._stand_up(sequence)
        self.waiting.appendleft(sequence)

    def _stand_up(self, sequence: Sequence) -> None:
        self.pool.give_back(sequence.blocks)
        self._seats.append(sequence.seat)
        sequence.blocks, sequence.computed, sequence.seat = [], 0, -1
