"""Snapshots as PyTorch writes them, built by hand so that a test can say what must come out."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from workbench.run.interchange import Imported, read_snapshot

Entry = dict[str, Any]

BASE = 0x7F00_0000_0000
START_US = 1_700_000_000_000_000
PAGE = 2 << 20

FRAMES: list[Entry] = [
    {"filename": "/srv/model.py", "line": 12, "name": "forward"},
    {"filename": "??", "line": 0, "name": "at::native::empty(int, <b>) const"},
]


def entry(action: str, time_us: int, addr: int = BASE, size: int = 512, **known: Any) -> Entry:
    """One entry of a device's trace."""
    row = {"action": action, "addr": addr, "size": size, "stream": 0, "time_us": START_US + time_us, "frames": []}
    return row | {"pool_id": (0, 0), "compile_context": "N/A", "user_metadata": ""} | known


def freed(time_us: int, addr: int = BASE, size: int = 512) -> list[Entry]:
    """The two entries that a free makes."""
    return [entry(action, time_us, addr, size) for action in ("free_requested", "free_completed")]


def active(addr: int, size: int, requested: int, **known: Any) -> Entry:
    """A block in use at the end."""
    return {
        "address": addr,
        "size": size,
        "requested_size": requested,
        "state": "active_allocated",
        "frames": [],
    } | known


def segment(addr: int, size: int, blocks: list[Entry], **known: Any) -> Entry:
    """Driver memory held at the end; what is not in `blocks` is one free block behind them."""
    at = blocks[-1]["address"] + blocks[-1]["size"] if blocks else addr
    rest: list[Entry] = [
        {"address": at, "size": addr + size - at, "requested_size": 0, "state": "inactive", "frames": []}
    ]
    used = sum(block["size"] for block in blocks)
    row = {"device": 0, "address": addr, "total_size": size, "stream": 0, "segment_type": "large", "frames": []}
    row |= {"segment_pool_id": (0, 0), "allocated_size": used, "active_size": used, "is_expandable": False}
    return row | {"blocks": blocks + (rest if at < addr + size else [])} | known


def snapshot(traces: list[list[Entry]], segments: list[Entry], **known: Any) -> Entry:
    """A whole snapshot."""
    settings = {"PYTORCH_CUDA_ALLOC_CONF": "", "max_split_size": -1, "garbage_collection_threshold": 0.0}
    return {"segments": segments, "device_traces": traces, "allocator_settings": settings} | known


def imported(folder: Path, content: object, protocol: int = 4) -> Imported:
    """`content`, pickled and imported."""
    path = folder / "snapshot.pickle"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return read_snapshot(path)


def in_use(events: pa.Table, layer: str) -> dict[tuple[int, int], int]:
    """What allocations minus frees leave: bytes by device and address."""
    left: dict[tuple[int, int], int] = {}
    for row in events.to_pylist():
        if row["layer"] == layer:
            key = row["device"], row["address"]
            left[key] = left.get(key, 0) + (row["bytes"] if row["kind"] == "alloc" else -row["bytes"])
    return {key: size for key, size in left.items() if size}


def random_snapshot(seed: int, steps: int, lost: int = 0) -> Entry:
    """A history an allocator could have had, on two devices, of which the first `lost` entries were overwritten."""
    chance = random.Random(seed)
    devices = [_random_device(chance, device, steps) for device in range(2)]
    return snapshot([trace[lost:] for trace, _ in devices], [part for _, parts in devices for part in parts])


def _random_device(chance: random.Random, device: int, steps: int) -> tuple[list[Entry], list[Entry]]:
    """Segments of eight slots of 1 MiB; a block takes one slot and asks for up to all of it."""
    slot = 1 << 20
    trace: list[Entry] = []
    segments: dict[int, dict[int, int]] = {}  # segment -> slot -> bytes asked
    now = 0
    for step in range(steps):
        now += chance.randrange(5)
        free = [at + i * slot for at, used in segments.items() for i in range(8) if at + i * slot not in used]
        full = [(at, block) for at, used in segments.items() for block in used]
        stream = chance.randrange(2)
        stack = chance.choice([[], FRAMES, FRAMES[:1]])
        choice = chance.random()
        if not free or choice < 0.05:
            at = BASE + (device * 10_000 + step) * 8 * slot
            segments[at] = {}
            trace.append(entry("segment_alloc", now, at, 8 * slot, stream=stream))
        elif full and choice < 0.5:
            at, block = chance.choice(full)
            trace += freed(now, block, segments[at].pop(block))
        elif choice < 0.6 and (empty := [at for at, used in segments.items() if not used]):
            del segments[empty[0]]
            trace.append(entry("segment_free", now, empty[0], 8 * slot))
        else:
            block, asked = chance.choice(free), chance.randrange(1, slot + 1)
            segments[(block - BASE) // (8 * slot) * 8 * slot + BASE][block] = asked
            trace.append(entry("alloc", now, block, asked, frames=stack))
    return trace, [_random_segment(device, at, used, slot) for at, used in segments.items()]


def _random_segment(device: int, at: int, used: dict[int, int], slot: int) -> Entry:
    blocks = [
        active(at + i * slot, slot, used[at + i * slot])
        if at + i * slot in used
        else {"address": at + i * slot, "size": slot, "requested_size": 0, "state": "inactive", "frames": []}
        for i in range(8)
    ]
    return segment(at, 8 * slot, blocks, device=device)
