"""What is noted of the batches of a vLLM that is not there: its executor and scheduler are simulated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from workbench.engines.vllm import launches
from workbench.engines.vllm.launches import Launches
from workbench.recorder.probe import Step

BLOCKS = 10


class Simulated:
    """An executor and a scheduler; batches stay in flight until somebody takes their outcome."""

    def __init__(self) -> None:
        self.in_flight: list[Any] = []
        self.waiting, self.free = 3, 7
        pool = SimpleNamespace(get_num_free_blocks=lambda: self.free)
        self.kv_cache_manager = SimpleNamespace(block_pool=pool)
        self.launches = Launches(self.in_flight)
        self.launches.note(self, self)

    def get_request_counts(self) -> tuple[int, int]:
        return 1, self.waiting

    def execute_model(self, scheduled: Any, non_block: bool = False) -> tuple[Any, bool]:
        self.in_flight.append(scheduled)
        return scheduled, non_block

    def launch(self, *new: str, **counts: int) -> Any:
        requests = [SimpleNamespace(req_id=name) for name in new]
        batch = SimpleNamespace(
            scheduled_new_reqs=requests, num_scheduled_tokens=counts, total_num_scheduled_tokens=sum(counts.values())
        )
        assert self.execute_model(batch, non_block=True) == (batch, True)
        return batch

    def take(self, now: int) -> None:
        del self.in_flight[0]
        self.launches.end(now)

    def told(self) -> list[Step]:
        """What is reported of those that ended, at the time 0 of their launches."""
        steps = (launch._replace(start_ns=0).step(end_ns, BLOCKS) for launch, end_ns in self.launches.ended())
        return [step for step in steps if step]


@pytest.fixture
def vllm() -> Simulated:
    return Simulated()


def test_a_batch_is_told_of_once_as_it_was_launched(vllm: Simulated) -> None:
    vllm.launch("a", a=5, b=1)
    vllm.waiting, vllm.free = 0, 1
    vllm.take(40)
    assert vllm.told() == [Step(0, 40, 6, 2, 3, BLOCKS - 7, BLOCKS)]
    assert vllm.told() == []


def test_those_in_flight_are_told_of_when_they_end(vllm: Simulated) -> None:
    for tokens in (1, 2, 3):
        vllm.launch(a=tokens)
    vllm.take(40)
    assert [(step.end_ns, step.tokens) for step in vllm.told()] == [(40, 1)]
    vllm.take(50)
    vllm.take(60)
    assert [(step.end_ns, step.tokens) for step in vllm.told()] == [(50, 2), (60, 3)]


def test_a_message_to_the_workers_is_no_step(vllm: Simulated) -> None:
    vllm.launch()
    vllm.take(40)
    assert vllm.told() == []


def test_of_vllm_only_what_reads_prompts_is_kept(vllm: Simulated) -> None:
    first, second = vllm.launch("a", a=5), vllm.launch(a=5)  # in flight together: nobody knows yet that a is read
    vllm.take(40)
    assert [launch.scheduled for launch, _ in vllm.launches.ended()] == [first]
    assert not vllm.launches.is_reading
    vllm.launch(a=1)
    vllm.take(50)
    vllm.take(60)
    assert [launch.scheduled for launch, _ in vllm.launches.ended()] == [second, None]


def test_who_takes_them_has_more_kept_until_a_prompt_is_read(vllm: Simulated) -> None:
    vllm.launch("a", a=5)
    vllm.take(40)
    vllm.launches.ended()
    vllm.launches.is_reading = True
    rest = vllm.launch(a=5)
    vllm.take(50)
    assert [launch.scheduled for launch, _ in vllm.launches.ended()] == [rest]


def test_a_new_request_that_is_in_flight_is_still_being_read(vllm: Simulated) -> None:
    vllm.launch(a=1)
    vllm.launch("b", b=5)
    vllm.take(40)
    vllm.told()
    assert vllm.launches.is_reading


def test_what_somebody_else_drives_vllm_to_is_left_out(vllm: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "KEPT", 4)
    for _ in range(10):
        vllm.launch("a", a=1)
        del vllm.in_flight[0]
    assert len(vllm.launches._launched) <= 5
    vllm.launches.forget()
    assert not vllm.launches.is_reading
    vllm.launch("b", b=7)
    vllm.take(40)
    assert [step.tokens for step in vllm.told()] == [7]
