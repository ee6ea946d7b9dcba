"""What the program of the kv-streams study makes of its calls and refuses; what it measures is tests/gpu's."""

from __future__ import annotations

import resource

import pytest

from workbench.errors import UsageError
from workbench.mechanisms.streams.transfers import UNORDERED
from workbench.studies.kv_streams import IDLE_NS, NO_THREAD
from workbench.studies.kv_streams_program import CALLS, Found, _do_nothing, main, read, rounds_of

US, MS = 1_000, 1_000_000


def test_calls_are_told_over_all_rounds_and_the_first_that_waits_within_one() -> None:
    found = Found(2, 100)
    found.calls[:] = found.in_driver[:] = found.idle[:] = US
    found.calls[1, 2] = found.in_driver[1, 2] = 150 * MS
    found.calls[:, 0] = found.in_driver[:, 3] = 5 * US
    found.submit_s[:], found.total_s[:], found.compute_s[:], found.corrupted[:] = (1, 3), (2, 4), (3, 5), (0, 7)
    times = {"p50_s": 1e-6, "p99_s": 5e-6, "max_s": 0.15, "first_s": 5e-6, "driver_p99_s": 5e-6, "idle_p99_s": 1e-6}
    of_rounds = {"submit_s": 2.0, "total_s": 3.0, "compute_s": 4.0}
    assert found.told() == times | of_rounds | {"first_blocked": 3, "corrupted": 7}
    found.in_driver[:] = 2 * US
    assert (found.told()["first_blocked"], found.told()["driver_p99_s"]) == (None, 2e-6)


def test_what_rounds_find_needs_no_new_memory() -> None:
    """A call that waits for a page takes 10 us, and some in a hundred would."""
    found = Found(200_000, 1)
    before = _faults()
    for numbers in vars(found).values():
        numbers[:] = 1
    assert _faults() - before < 50  # of 2,700 pages


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def test_windows_in_which_nothing_is_done_are_as_long_as_a_call_or_longer() -> None:
    found = Found(1, 100)
    _do_nothing(memoryview(found.idle[0]))
    assert found.idle.min() >= IDLE_NS


def test_few_transfers_are_measured_in_many_rounds() -> None:
    assert [rounds_of(count) for count in (1, 100, 2999, 3000, 100_000)] == [CALLS, CALLS // 100, 2, 1, 1]


def test_options_come_in_any_order() -> None:
    asked = read(["bounded", "10", "4096", "no-thread", "unordered"])
    assert (asked.value, asked.in_flight, asked.bytes) == ("bounded", 10, 4096)
    assert asked.options == {UNORDERED, NO_THREAD}
    assert not asked.streams.has_thread
    assert read(["bounded", "10", "4096"]).streams.has_thread


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bounded"], "give a value of streams, how many transfers, and bytes: bounded 1000 4096"),
        (["bounded", "many", "4096"], "give a value of streams"),
        (["bounds", "1", "4096"], "streams can not be 'bounds': did you mean 'bounded'?"),
        (["single", "1", "4096", "unorderly"], "streams can not be 'unorderly': did you mean 'unordered'?"),
        (["single", "0", "4096"], "0 transfers of 4096 bytes can not be"),
        (["single", "1", "0"], "1 transfers of 0 bytes can not be"),
        (["single", "1", "6"], "1 transfers of 6 bytes can not be: give 1 or more, of 4 bytes or a multiple"),
        (["single", str(1 << 63), "4096"], "at most 536870912"),
    ],
)
def test_what_can_not_be_measured_is_refused_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(arguments)
    assert message in str(refused.value)


def test_without_a_gpu_the_program_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["bounded", "10", "4096"]) == 2
    assert capsys.readouterr().err == "workbench: streams need a CUDA device, and torch finds none here\n"
