"""Peak memory of both engines under one config, by owner, and what of it is held and not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.programs.speed import prompts_of
from tests.benchmarks.rows import Row
from workbench.recorder.book import BEFORE

CPU = ("pageable", 16, "64MiB", 64)
CUDA = ("gpu", 64, "4GiB", 128)  # tier, requests, budget, tokens
MODEL = "smollm2"
MIB = 2**20
LEAST = 8 * MIB  # of an owner with a line of its own
MOST_UNUSED = 0.5  # of vLLM's


def measure(folder: Path, quick: bool) -> list[Row]:
    """A row of the peak, and one of every owner."""
    import torch

    tier, requests, budget, tokens = CUDA if torch.cuda.is_available() else CPU
    ledgers = {
        engine: _recorded(folder, engine, tier, requests, budget, 4 if quick else tokens)
        for engine in ("reference", "vllm")
    }
    return list(_rows(tier, ledgers))


def _recorded(
    folder: Path, engine: str, tier: str, requests: int, budget: str, tokens: int
) -> dict[tuple[str, str | None], int]:
    """Bytes by owner and tag at the peak of a generation."""
    from workbench import EngineConfig, Store, Workload, generate

    config = EngineConfig(engine=engine, model=MODEL).with_setting("limits.max_sequences", str(requests))
    config = config.with_setting("limits.max_length", "1024").with_setting("limits.kv_budget", budget)
    asked = Workload(prompts_of(requests), max_tokens=tokens, stop_at_end=False)
    run = generate(config, asked, name=f"{MODEL}-{engine}", store=Store(folder)).run
    ledger = run.ledger(tier) if tier == "pageable" else run.ledger(tier, run.timeline(tier).peak.time_ns)
    return {(entry.owner, entry.tag): entry.bytes for entry in ledger.entries if entry.owner != BEFORE}


def _rows(tier: str, ledgers: dict[str, dict[tuple[str, str | None], int]]) -> Iterator[Row]:
    mine, other = ledgers["reference"], ledgers["vllm"]
    yield _row(f"{MODEL}, peak, {tier}", sum(mine.values()), sum(other.values()))
    for key in sorted(mine.keys() | other.keys(), key=lambda key: -mine.get(key, 0) - other.get(key, 0)):
        held, theirs = mine.get(key, 0), other.get(key, 0)
        if max(held, theirs) >= LEAST:
            yield _row(f"{MODEL}, {key[0]}, {key[1] or 'no tag'}", held, theirs)
    if tier == "gpu":
        mine_unused, theirs_unused = (
            sum(size for (_, tag), size in one.items() if tag == "unused") for one in ledgers.values()
        )
        yield _row(f"{MODEL}, held and not used", mine_unused, theirs_unused, MOST_UNUSED * theirs_unused / MIB)


def _row(what: str, held: int, theirs: int, most: float | None = None) -> Row:
    return Row(what, held / MIB, "MiB", most, "", "vllm", theirs / MIB)
