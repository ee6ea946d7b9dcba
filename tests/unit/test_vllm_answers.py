"""When a prompt is read, from what vLLM's scheduler says of its batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.probes import Notes
from workbench.engines.vllm.answers import Answers, Request

PROMPT = list(range(10))
NAME = "7-b2c1"  # as vLLM calls request 7


def batch(tokens: int, computed: int, *, is_new: bool = False, name: str = NAME) -> Any:
    """So many tokens of a prompt, after those that are computed."""
    new = [SimpleNamespace(req_id=name, num_computed_tokens=computed)] if is_new else []
    cached = ([], []) if is_new else ([name], [computed])
    return SimpleNamespace(
        scheduled_new_reqs=new,
        scheduled_cached_reqs=SimpleNamespace(req_ids=cached[0], num_computed_tokens=cached[1]),
        num_scheduled_tokens={name: tokens},
    )


@pytest.fixture
def told() -> Notes:
    return Notes()


@pytest.fixture
def answers(told: Notes) -> Answers:
    nothing: Any = None
    made = Answers(nothing, nothing, told, [Request(7, PROMPT)])
    made._stream = False
    return made


@pytest.mark.parametrize(
    "batches",
    [
        [batch(10, 0, is_new=True)],
        [batch(3, 7, is_new=True)],  # the rest was in the cache
        [batch(6, 0, is_new=True), batch(4, 6)],
        [batch(6, 0, is_new=True), batch(2, 0, name="8-a"), batch(6, 0), batch(4, 6)],  # it lost its blocks meanwhile
        [batch(6, 0, is_new=True), batch(6, 0, is_new=True), batch(4, 6)],  # the same, as another runner tells it
    ],
    ids=["at once", "found", "in chunks", "again", "again as new"],
)
def test_the_first_token_is_told_when_the_whole_prompt_is_read(
    answers: Answers, told: Notes, batches: list[Any]
) -> None:
    for time_ns, each in enumerate(batches, 1):
        assert told.told == []
        answers._note_read(each, time_ns)
    assert told.told == [(7, 0, 1)]
    assert answers._requests["7"].started_ns == 1
