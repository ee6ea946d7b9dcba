"""How fast an engine answered, from hand-built requests, tokens and steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.unit.builders import written
from workbench.run.metrics import per_request, summary
from workbench.run.store import Store

SECOND = 1_000_000_000
REQUEST: dict[str, Any] = {
    "request": 0,
    "arrived_ns": 0,
    "started_ns": SECOND,
    "ended_ns": 4 * SECOND,
    "prompt_tokens": 5,
    "answer_tokens": 12,
    "end": "length",
}


def step(start: float, end: float) -> dict[str, int]:
    times = {"start_ns": int(start * SECOND), "end_ns": int(end * SECOND)}
    return times | {"tokens": 1, "requests": 1, "waiting": 0, "blocks": 2, "all_blocks": 9}


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ([(0, 1), (1, 2), (5, 6)], 3),  # one after the other; nothing was generated in between
        ([(0, 2), (1, 3), (2, 4)], 4),  # each launched before the one before it is over
        ([(0, 9), (1, 2), (3, 10)], 10),  # one within another
        ([(3, 4), (0, 1)], 2),
    ],
)
def test_tokens_a_second_are_those_of_the_time_in_which_any_step_ran(
    tmp_path: Path, steps: list[tuple[float, float]], seconds: float
) -> None:
    found = summary(written(tmp_path, requests=[REQUEST], steps=[step(*each) for each in steps]))
    assert found["tokens_per_s"] == pytest.approx(12 / seconds)
    assert found["steps"] == len(steps)


def test_without_steps_no_speed_is_made_up(tmp_path: Path) -> None:
    found = summary(written(tmp_path, requests=[REQUEST]))
    assert math.isnan(found["tokens_per_s"])


def test_a_recorded_vllm_that_launches_ahead_is_as_fast_as_its_answers_say() -> None:
    [run] = [run for run in Store.recorded().runs() if run.manifest.name == "smollm2-vllm"]
    steps = run.table("steps").to_pandas()
    assert (steps["start_ns"].to_numpy()[1:] < steps["end_ns"].to_numpy()[:-1]).all()  # it did
    requests = per_request(run)
    seconds = (requests["ended_ns"].max() - requests["started_ns"].min()) / SECOND
    assert summary(run)["tokens_per_s"] == pytest.approx(requests["answer_tokens"].sum() / seconds, rel=0.02)


def test_a_request_s_times_are_from_its_arrival(tmp_path: Path) -> None:
    tokens = [{"time_ns": (2 + index) * SECOND, "request": 0, "position": index, "count": 1} for index in range(3)]
    [row] = per_request(written(tmp_path, requests=[REQUEST], tokens=tokens)).to_dict("records")
    assert (row["queue_s"], row["first_token_s"], row["between_s"]) == (1, 2, 1)
    assert row["tokens_per_s"] == pytest.approx(3 / 3)
