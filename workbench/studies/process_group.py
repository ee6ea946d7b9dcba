"""What a process group costs one rank that has nobody to talk to, by the way in which it is begun."""

from __future__ import annotations

from workbench.config import EngineConfig, Workload
from workbench.mechanisms.process_group import communicators
from workbench.run.metrics import summary
from workbench.run.run import Run
from workbench.studies.base import Measure, Outcome, Study, of_engine, pairs
from workbench.studies.telling import difference, texts

ENGINES = ("reference", "vllm")
BASE = "gloo"
VALUES = (BASE, "nccl-lazy", "nccl-eager")
PROMPTS = tuple(f"Write a short story about the number {number}." for number in range(4))
WORKLOAD = Workload(PROMPTS, max_tokens=32, stop_at_end=False)


def study() -> Study:
    """Gives the study: both engines, each value of the axis."""
    config = EngineConfig().with_setting("limits.kv_budget", "256MiB").with_setting("limits.max_length", 1024)
    variants = tuple(
        of_engine(
            f"{engine}-{value}",
            config.with_setting("engine", engine).with_setting("process_group", value),
            WORKLOAD,
            None if value == BASE else f"{engine}-{BASE}",
        )
        for engine in ENGINES
        for value in VALUES
    )
    question = "What does a process group of one rank take, and what does it give?"
    return Study("process-group", question, variants, measure, answer)


def measure(run: Run) -> dict[str, Measure]:
    """Gives the memory of each tier at its fullest phase edge, what of it is NCCL's, and the speed."""
    tiers = [tier for tier in ("gpu", "pinned", "pageable") if len(run.timeline(tier).times_ns)]
    taken = {f"{tier} memory": Measure(run.ledger(tier).explained, "B") for tier in tiers}
    nccl = sum(one.bytes for one in communicators(run))
    found = summary(run)
    speed = {"speed": Measure(found["tokens_per_s"], "tokens/s")} if found["steps"] else {}
    return taken | {"by NCCL": Measure(nccl, "B")} | speed


def answer(outcomes: list[Outcome]) -> list[str]:
    """Gives a sentence for each variant against gloo of the same engine."""
    return [f"{_told(base, other)}; {texts(base, other)}" for base, other in pairs(outcomes)]


def _told(base: Outcome, other: Outcome) -> str:
    """On a GPU, beyond what torch has: a budget that is a share gives torch what the group leaves."""
    if other.runs[0].manifest.gpus:
        return difference(base, other, "gpu", without="torch")
    return difference(base, other, "pageable")
