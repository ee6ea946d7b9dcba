"""Random events of an allocator: segments from the driver, blocks in them, and what others take beside it."""

from __future__ import annotations

import random
from typing import Any

from tests.unit.builders import block, gpu

SEGMENT = 1 << 20
SLOT = SEGMENT // 8
TAGS = ("weights", "kv_cache", None)
OTHERS = ("libnccl.so.2", "context", "libcublas.so.13")


def gpu_rows(seed: int, count: int) -> list[dict[str, Any]]:
    """So many events, in the order of time; a segment is given back only when no block is in it."""
    chance = random.Random(seed)
    made = _Made(chance)
    acts = (
        made.segment,
        made.other,
        made.block,
        made.block,
        made.block,
        made.free_block,
        made.free_block,
        made.give_back,
    )
    while len(made.rows) < count:
        chance.choice(acts)()
    return made.rows


class _Made:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.rows: list[dict[str, Any]] = []
        self.time = 0
        self.segments: dict[int, dict[int, dict[str, Any]]] = {}  # address -> slot -> what its block is
        self.others: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self.time += self.chance.choice((0, 1, 1, 5, 40))
        self.rows.append({**row, "time_ns": self.time})

    def segment(self) -> None:
        address = self.chance.randrange(1, 6) * SEGMENT
        if address not in self.segments:
            self.segments[address] = {}
            self.add(gpu(0, "alloc", SEGMENT, address, tag=self.chance.choice(TAGS)))

    def give_back(self) -> None:
        for address in [address for address, blocks in self.segments.items() if not blocks][:1]:
            del self.segments[address]
            self.add(gpu(0, "free", SEGMENT, address))

    def block(self) -> None:
        if not self.segments:
            return
        address, blocks = self.chance.choice(list(self.segments.items()))
        slot = self.chance.randrange(8)
        if slot not in blocks:
            row = block(0, "alloc", self.chance.randrange(1, SLOT), address + slot * SLOT, tag=self.chance.choice(TAGS))
            blocks[slot] = row | {"stack": self.chance.randrange(4)}
            self.add(blocks[slot])

    def free_block(self) -> None:
        filled = [blocks for blocks in self.segments.values() if blocks]
        if filled:
            blocks = self.chance.choice(filled)
            row = blocks.pop(self.chance.choice(list(blocks)))
            self.add(row | {"kind": "free", "stack": 0})

    def other(self) -> None:
        if self.others and self.chance.random() < 0.5:
            self.add(self.others.pop() | {"kind": "free"})
        else:
            address = (100 + len(self.others)) * SEGMENT
            self.others.append(
                gpu(0, "alloc", self.chance.randrange(1, SEGMENT), address, owner=self.chance.choice(OTHERS))
            )
            self.add(self.others[-1])
