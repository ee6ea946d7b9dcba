"""How fast a run's engine answered: of every request, and of all together."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from workbench.run.run import Run
from workbench.run.schema import TIERS

SECOND = 1e9  # nanoseconds

Ints = npt.NDArray[np.int64]


def per_request(run: Run) -> pd.DataFrame:
    """Gives a row a request, by number.

    queue_s: from its arrival to its first step. first_token_s: from its arrival to its first token. It arrives with
    the others of its workload, once their phase has begun: what the recorder takes for that edge is in neither.
    between_s, between_p99_s: from one token to the next, the median and the 99th percentile; where tokens were told of
    together, the mean, and no percentile. tokens_per_s: of its answer, from its first step on. What did not happen is
    missing.
    """
    rows = run.table("requests").to_pandas().sort_values("request", kind="stable").reset_index(drop=True)
    tokens = run.table("tokens").to_pandas().sort_values(["request", "position"], kind="stable")
    told = {request: group[["time_ns", "count"]].to_numpy().T for request, group in tokens.groupby("request")}
    rows["queue_s"] = (rows["started_ns"] - rows["arrived_ns"]) / SECOND
    taken = [_of_tokens(row.arrived_ns, row.started_ns, told.get(row.request)) for row in rows.itertuples()]
    names = ["first_token_s", "between_s", "between_p99_s", "tokens_per_s"]
    return rows.join(pd.DataFrame(taken, columns=names, index=rows.index))


def _of_tokens(arrived: int, started: float, told: Any) -> tuple[float, float, float, float]:
    if told is None:
        return (np.nan,) * 4
    times, counts = told
    count, seconds = counts.sum(), (times[-1] - started) / SECOND
    between = np.diff(times) / SECOND
    if (counts > 1).any():
        median, late = (between.sum() / (count - counts[0]) if count > counts[0] else np.nan), np.nan
    else:
        median, late = np.quantile(between, [0.5, 0.99]) if len(between) else (np.nan, np.nan)
    return (times[0] - arrived) / SECOND, median, late, count / seconds if seconds > 0 else np.nan


def _covered(starts: Ints, ends: Ints) -> int:
    """How much time some spans take together: vLLM launches a step before it takes the last one's outcome."""
    if not len(starts):
        return 0
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    before = np.concatenate([starts[:1], ends[:-1]])  # till then time is counted already
    return int(np.maximum(ends - np.maximum(starts, before), 0).sum())


def summary(run: Run) -> dict[str, Any]:
    """Gives the whole run's numbers: tokens, tokens_per_s while a step ran, medians, peaks by tier."""
    requests, steps = per_request(run), run.table("steps").to_pandas()
    tokens = int(requests["answer_tokens"].sum())
    busy = _covered(steps["start_ns"].to_numpy(), steps["end_ns"].to_numpy()) / SECOND
    peaks = {tier: run.timeline(tier).peak.bytes for tier in TIERS}
    return {
        "tokens": tokens,
        "tokens_per_s": tokens / busy if busy else float("nan"),
        "first_token_s": float(requests["first_token_s"].median()),
        "between_s": float(requests["between_s"].median()),
        "steps": len(steps),
        "most_requests": int(steps["requests"].max()) if len(steps) else 0,
        "most_blocks": int(steps["blocks"].max()) if len(steps) else 0,
        "all_blocks": int(steps["all_blocks"].max()) if len(steps) else 0,
        "peak_bytes": {tier: size for tier, size in peaks.items() if size},
    }
