"""The KV budget: what the engine took for keys and values against what was asked."""

from __future__ import annotations

from typing import Any

from workbench.config import KvBudget, Limits
from workbench.run.columns import equals, numbers
from workbench.run.evidence import CANNOT_TELL, NOT_OBSERVED, OBSERVED, Evidence
from workbench.run.run import Run
from workbench.units import format_bytes, parse_bytes, shown

TAG = "kv_cache"
INNERMOST_FIRST = ("allocator", "driver", "host")  # a block lies in what another layer handed out


def evidence(run: Run, limits: Limits) -> Evidence | None:
    """Gives whether the bytes that are tagged as KV cache are those asked for, to a block; None: nothing was asked."""
    budget = limits.kv_budget
    if budget is None:
        return None
    setting = f"limits.kv_budget {shown(budget)}"
    taken, blocks = taken_bytes(run), _blocks(run)
    if not taken or not blocks:
        return Evidence(setting, CANNOT_TELL, "no step was recorded" if taken else _why_nothing(run))
    verdict, why = _judge(budget, taken, blocks, run)
    return Evidence(setting, verdict, f"{format_bytes(taken)} ({taken} bytes) tagged {TAG}, {blocks} blocks: {why}")


def _why_nothing(run: Run) -> str:
    why, told = f"no memory is tagged {TAG}", run.manifest.notes.get("engine", {}).get("kv_cache_bytes")
    tags = run.table("totals")["tag"].unique().to_pylist()
    below = next((tag for tag in tags if tag and tag.startswith("below ")), None)  # what is not recorded by block
    if below and isinstance(told, int) and told < parse_bytes(below.removeprefix("below ")):
        how = f"{below} no block is recorded by itself: record with a lower threshold"
        return f"{why}: the cache is {format_bytes(told)}, by the engine's word, and {how}"
    return why


def _judge(budget: KvBudget, taken: int, blocks: int, run: Run) -> tuple[str, str]:
    block = taken // blocks
    if budget.unit == "bytes":
        lacks = int(budget.amount) - taken
        fits = abs(lacks) < block  # more: with its cache vLLM makes the tables of its blocks
        return OBSERVED if fits else NOT_OBSERVED, f"{abs(lacks)} bytes {'less' if lacks >= 0 else 'more'} than asked"
    engine: dict[str, Any] = run.manifest.notes.get("engine", {})
    size: Any = engine.get("block_size")
    if budget.unit == "tokens" and isinstance(size, int):
        tokens = engine.get("kv_cache_tokens", blocks * size)  # vLLM keeps a block for itself
        return OBSERVED if 0 <= tokens - budget.amount < size else NOT_OBSERVED, f"room for {tokens} tokens"
    room = engine.get("kv_room_bytes")  # what a share leaves is the engine's own reckoning
    if not isinstance(room, int):
        return CANNOT_TELL, "the engine does not say how much that share is"
    fits = abs(room - taken) < block
    return OBSERVED if fits else NOT_OBSERVED, f"{room} bytes are what that share leaves, by the engine's word"


def taken_bytes(run: Run) -> int:
    """Gives the bytes that one rank tagged as KV cache when its phase ended, as the engine asked for them."""
    phases = run.table("phases")
    mine = next((phase for phase in phases.to_pylist() if phase["name"] == TAG and phase["end_ns"] is not None), None)
    if mine is None:
        return 0
    events = run.table("events")
    tagged = equals(events, "tag", TAG) & (numbers(events, "time_ns") <= mine["end_ns"])
    tagged &= numbers(events, "process") == mine["process"]  # each rank has the budget to itself
    by_layer = (tagged & equals(events, "layer", layer) for layer in INNERMOST_FIRST)
    chosen = next((some for some in by_layer if some.any()), tagged)
    sizes = numbers(events, "asked")[chosen]
    is_alloc = equals(events, "kind", "alloc")[chosen]
    return int(sizes[is_alloc].sum() - sizes[~is_alloc].sum())


def _blocks(run: Run) -> int:
    told: int = run.manifest.notes.get("engine", {}).get("blocks", 0)  # where no step was recorded
    return max(run.table("steps")["all_blocks"].to_pylist(), default=told)
