"""The KV cache's blocks: who holds which, and which have tokens that a new request begins with too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

BLOCK_SIZE = 16  # tokens

Key = bytes
"""Of a full block: stands for its tokens and all before them."""

ROOT: Key = b""


def key_of(parent: Key, tokens: Sequence[int]) -> Key:
    """Gives the key of the block that has these tokens after the blocks up to `parent`."""
    return blake2b(parent + np.asarray(tokens, np.int64).tobytes(), digest_size=16).digest()


class BlockPool:
    """Lends blocks by number. A block that is given back keeps its tokens until it is lent anew."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders = [0] * count
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))  # longest given back first
        self._by_key: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}

    @property
    def free(self) -> int:
        """How many blocks nobody holds."""
        return len(self._free)

    @property
    def held(self) -> int:
        """How many blocks somebody holds."""
        return self.count - len(self._free)

    def take(self) -> int:
        """Lends a block for new tokens; there must be one free."""
        block, _ = self._free.popitem(last=False)
        self._forget(block)
        self._holders[block] = 1
        return block

    def find(self, key: Key) -> int | None:
        """Gives the block that holds these tokens, if there is one."""
        return self._by_key.get(key)

    def share(self, block: int) -> None:
        """Lends a block for the tokens that it has."""
        self._holders[block] += 1
        self._free.pop(block, None)

    def publish(self, block: int, key: Key) -> None:
        """Says that a block is full and computed, so that it can be shared."""
        if key not in self._by_key:
            self._forget(block)
            self._by_key[key], self._keys[block] = block, key

    def give_back(self, blocks: Sequence[int]) -> None:
        """Takes blocks back from one holder; the last ones are the first to be lent anew."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if not self._holders[block]:
                self._free[block] = None

    def _forget(self, block: int) -> None:
        if key := self._keys.pop(block, None):
            del self._by_key[key]
