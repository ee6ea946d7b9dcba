"""One request on its way from prompt to answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.engines.reference.blocks import BLOCK_SIZE, ROOT, Key, key_of


@dataclass(eq=False)
class Sequence:
    """A request's tokens, and where their keys and values are."""

    request: int  # its number in the run
    index: int  # of its prompt in the workload
    tokens: list[int]  # the prompt's, then the answer's
    prompt: int  # tokens of it
    most: int  # tokens at which it ends, whatever the last one is
    arrived_ns: int | None = None
    started_ns: int | None = None
    computed: int = 0  # tokens whose keys and values are in its blocks
    blocks: list[int] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)  # of its full blocks, as far as somebody asked
    seat: int = -1  # its row in the batch's tables; -1: it has none

    @property
    def answered(self) -> int:
        """How many tokens the answer has."""
        return len(self.tokens) - self.prompt

    def key(self, index: int) -> Key:
        """Gives the key of its full block of that index."""
        while len(self.keys) <= index:
            start = len(self.keys) * BLOCK_SIZE
            self.keys.append(key_of(self.keys[-1] if self.keys else ROOT, self.tokens[start : start + BLOCK_SIZE]))
        return self.keys[index]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of a sequence that go through the model in one step: `count` from its `start` on."""

    sequence: Sequence
    start: int
    count: int

    @property
    def end(self) -> int:
        """Gives the place after the last token."""
        return self.start + self.count

    @property
    def is_last(self) -> bool:
        """Whether the model's answer to it is the sequence's next token."""
        return self.end == len(self.sequence.tokens)
