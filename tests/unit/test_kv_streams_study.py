"""The answer of the kv-streams study, from what runs of its program say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.builders import written
from workbench.compare.evidence import evidence
from workbench.mechanisms.streams.transfers import UNORDERED
from workbench.run.evidence import CANNOT_TELL, OBSERVED
from workbench.studies.base import HERE, Outcome, do, recorded
from workbench.studies.kv_streams import answer, found_in, measure, study


def outcome(folder: Path, value: str, in_flight: int, **found: Any) -> Outcome:
    given: dict[str, Any] = {"value": value, "in_flight": in_flight, "bytes": 4096, "ordering": "ordered", "rounds": 1}
    given["has_thread"] = value != "single"
    times = {"p50_s": 3e-6, "p99_s": 7e-6, "max_s": 9e-6, "submit_s": 0.1, "total_s": 0.25, "delay_s": 0.001}
    sizes = {"private_bytes": 5 << 20, "pinned_bytes": 8 << 20, "first_blocked": None, "corrupted": 0}
    run = written(folder, f"kv-streams-{value}-{in_flight}-4KiB")
    run.manifest.notes["measured"] = given | times | sizes | found
    variant = next(one for one in study().variants if one.name.startswith(f"{value}-"))
    return Outcome(variant, [run])


def test_the_answer_is_made_of_the_runs(tmp_path: Path) -> None:
    told = answer(
        [
            outcome(tmp_path, "single", 100),
            outcome(tmp_path, "single", 10_000, first_blocked=1019, max_s=0.19, delay_s=0.05, p99_s=9e-6),
            outcome(tmp_path, "bounded", 10_000, driver_p99_s=59e-6),
            outcome(tmp_path, "per-transfer", 1000, ordering="unordered", corrupted=940),
        ]
    )
    assert told == [
        "single, handed on by who submits, 4 KiB each, 100 to 10000 in flight: p99 of a submission is at most 9.00 us; "
        "submission 1019 waits for room, up to 190 ms with 10000 in flight; "
        "10000 take 250 ms in all and delay the compute beside them by 50.0 ms",
        "bounded, handed on by a thread, 4 KiB each, 10000 in flight: "
        "p99 of a submission is at most 7.00 us; the driver takes the thread up to 59.0 us for one (p99); "
        "none waits for room; "
        "10000 take 250 ms in all and delay the compute beside them by 1.00 ms",
        "per-transfer without order: of 1000 blocks 940 a round are corrupted",
    ]


def test_waiting_in_some_runs_alone_is_told_with_how_many(tmp_path: Path) -> None:
    free, blocked = (outcome(tmp_path, "single", 1000, first_blocked=first) for first in (None, 990))
    [told] = answer([Outcome(free.variant, free.runs + blocked.runs)])
    assert "; submission 990 waits for room, up to 9.00 us with 1000 in flight (in 1 of 2 runs);" in told
    [told] = answer([blocked])
    assert "; submission 990 waits for room, up to 9.00 us with 1000 in flight;" in told


def test_compute_that_was_no_longer_beside_them_is_not_delayed(tmp_path: Path) -> None:
    [told] = answer([outcome(tmp_path, "bounded", 8000, delay_s=-20e-6)])
    assert told.endswith("; 8000 take 250 ms in all and do not delay the compute beside them (-20.0 us)")


def test_of_several_runs_the_median_is_told_beside_that_of_an_empty_loop(tmp_path: Path) -> None:
    slow, *fast = (
        outcome(tmp_path, "bounded", 1, p99_s=p99_us / 1e6, idle_p99_s=idle_us / 1e6)
        for p99_us, idle_us in ((15, 14), (4, 2), (5, 3))
    )
    slow.runs += [run for one in fast for run in one.runs]
    [told] = answer([slow])
    said = "p99 of a submission is at most 5.00 us, 4.00 to 15.0 us in 3 runs (of an empty loop of 2.00 us: 3.00 us);"
    assert said in told


def test_a_number_that_is_not_there_is_no_measure(tmp_path: Path) -> None:
    measures = measure(outcome(tmp_path, "bounded", 1000).runs[0])
    assert (measures["p99_s"].value, measures["p99_s"].unit) == (7e-6, "s")
    assert (measures["host_bytes"].value, measures["host_bytes"].unit) == (13 << 20, "B")
    assert "first_blocked" not in measures


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="says what a machine without a GPU says")
def test_without_a_gpu_nothing_is_run(tmp_path: Path) -> None:
    findings = do(study(), 1)
    here = [outcome for outcome in findings.outcomes if outcome.where == HERE]
    assert {(outcome.why, len(outcome.runs)) for outcome in here} == {("streams need a CUDA device", 0)}
    names = [outcome.variant.name for outcome in here]
    assert len(set(names)) == len(here) == 26
    assert all(one.variant.against in {None, *names} for one in here)


def test_every_variant_comes_with_a_recorded_run_in_which_it_took_effect() -> None:
    for variant in study().variants:
        [run] = recorded(study(), variant)
        [found] = evidence(run)
        is_ordered, is_alone = UNORDERED not in variant.name, "-1-" in variant.name
        expected = {OBSERVED} if is_ordered else {OBSERVED, CANNOT_TELL}  # what waits for nothing need not pile up
        assert found.verdict in ({CANNOT_TELL} if is_alone else expected), f"{variant.name}: {found.why}"
        assert (found_in(run)["corrupted"] == 0) == is_ordered, variant.name


def test_in_no_recorded_run_with_a_thread_does_submitting_hold_anybody_up() -> None:
    runs = [run for variant in study().variants for run in recorded(study(), variant)]
    handed = [found for found in map(found_in, runs) if found["value"] != "single" and found["has_thread"]]
    slowest = max(handed, key=lambda found: float(found["p99_s"]))
    assert {found["in_flight"] for found in handed} == {1, 100, 1_000, 8_000, 10_000, 100_000}
    assert slowest["p99_s"] < 10e-6, slowest
    assert not any(found["first_blocked"] for found in handed)
