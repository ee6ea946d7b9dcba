"""Compared runs: one axis of time, repeats told from other ways, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.builders import MIB, event, written
from workbench.compare.comparison import Comparison
from workbench.errors import UsageError
from workbench.run.run import Run
from workbench.view.alignment import align
from workbench.view.comparison_screen import ComparisonScreen
from workbench.view.screen import Screen
from workbench.view.ways import settings_of, ways_of


def phase(name: str, start: int, end: int | None) -> dict[str, Any]:
    return {"name": name, "start_ns": start, "end_ns": end, "process": 1, "depth": 0}


def made(
    folder: Path, size: int, phases: list[dict[str, Any]], config: dict[str, Any] | None = None, end: int = 100
) -> Run:
    rows = [
        event(5, "alloc", size, 1, owner="a"),
        event(6, "alloc", 3 * MIB, 2, owner="b"),
        event(end, "free", size, 1),
    ]
    run = written(folder, events=rows, phases=phases)
    run.manifest.config = config
    return run


def test_common_phases_begin_and_end_at_the_same_place(tmp_path: Path) -> None:
    first = made(tmp_path, 1, [phase("load", 10, 20), phase("only here", 20, 30), phase("run", 40, 90)])
    second = made(tmp_path, 1, [phase("load", 15, 65), phase("run", 70, 80)])
    found = align([Screen(first), Screen(second)])
    assert found.own == ((0, 10, 20, 40, 90, 100), (0, 15, 65, 70, 80, 100))
    assert found.shared == (0, 15, 65, 85, 135, 155)


def test_phases_that_came_in_another_order_do_not_turn_time_back(tmp_path: Path) -> None:
    first = made(tmp_path, 1, [phase("a", 10, 20), phase("b", 30, 40)])
    second = made(tmp_path, 1, [phase("b", 10, 20), phase("a", 30, 40)])
    found = align([Screen(first), Screen(second)])
    for axis in (*found.own, found.shared):
        assert list(axis) == sorted(axis)


def test_runs_of_one_config_are_repeats_of_one_way(tmp_path: Path) -> None:
    configs = [{"limits": {"kv": 1}}, {"limits": {"kv": 2}}, {"limits": {"kv": 1}}]
    runs = [made(tmp_path, 1, [], config) for config in configs]
    ways = ways_of(runs)
    assert [(way.name, way.runs) for way in ways] == [("made, kv 1", (0, 2)), ("made, kv 2", (1,))]
    assert settings_of(runs, ways) == [("limits.kv", ["1", "2"])]
    runs[2].manifest.gpus = [{"name": "a GPU"}]  # what another machine takes is no repeat
    assert [way.runs for way in ways_of(runs)] == [(0,), (1,), (2,)]
    assert ways_of([runs[0], runs[2]])[1].name == "made, a GPU"
    two_settings = [made(tmp_path, 1, [], config) for config in ({"x": 1, "y": 1}, {"x": 2, "y": 2})]
    assert [way.name for way in ways_of(two_settings)] == ["made, A", "made, B"]


def test_runs_that_were_asked_something_else_are_no_repeats_and_say_so(tmp_path: Path) -> None:
    runs = [made(tmp_path, 1, [], {"x": 1}) for _ in range(4)]
    short, long = ({"prompts": [letter * 500], "max_tokens": 5} for letter in "ab")
    runs[0].manifest.workloads = runs[1].manifest.workloads = [short]
    assert Comparison(runs).has_same_workloads, "as far as they say"
    runs[2].manifest.workloads, runs[3].manifest.workloads = [long], [short, long]
    assert not Comparison(runs).has_same_workloads
    ways = ways_of(runs)
    assert [way.runs for way in ways] == [(0, 1), (2,), (3,)]
    settings = dict(settings_of(runs, ways))
    assert settings["workload.max_tokens"] == ["5", "5", "[5, 5]"]
    assert [value[:4] for value in settings["workload.prompts"]] == ['["aa', '["bb', '[["a']
    assert max(map(len, settings["workload.prompts"])) < 250


def test_a_difference_within_the_spread_of_repeats_is_noise(tmp_path: Path) -> None:
    sizes = [(10 * MIB, {"x": 1}), (14 * MIB, {"x": 1}), (13 * MIB, {"x": 2}), (90 * MIB, {"x": 3})]
    screen = ComparisonScreen([made(tmp_path, size, [phase("p", 1, 50)], config) for size, config in sizes])
    noise = screen.answer({"ask": "deltas", "tier": "pageable", "by": "owner", "way": 1}).columns
    assert (noise["what"], list(noise["is_noise"]), list(noise["noise"])) == (["a"], [1], [4 * MIB])
    beyond = screen.answer({"ask": "deltas", "tier": "pageable", "by": "owner", "way": 2}).columns
    assert (list(beyond["other"]), list(beyond["is_noise"])) == ([90 * MIB], [0])


def test_questions_of_one_run_are_that_run_s(tmp_path: Path) -> None:
    screen = ComparisonScreen([made(tmp_path, size, []) for size in (MIB, 2 * MIB)])
    series = {"ask": "series", "tier": "pageable", "by": "owner", "start": 0, "end": 100, "columns": 50}
    peaks = [max(screen.answer(series | {"run": place}).columns["band 0"]) for place in (0, 1)]
    assert peaks == [3 * MIB, 3 * MIB]
    assert max(screen.answer(series | {"run": 1}).columns["band 1"]) == 2 * MIB
    assert "no run 2" in screen.answer({"ask": "run", "run": 2}).facts["error"]
    assert "nothing to rank" in screen.answer({"ask": "deltas", "tier": "gpu", "by": "owner"}).facts["error"]


def test_a_run_without_a_tier_is_shown_with_nothing_in_it(tmp_path: Path) -> None:
    on_gpu = written(tmp_path, events=[event(5, "alloc", MIB, 1, tier="gpu", layer="driver", owner="a")])
    screen = ComparisonScreen([on_gpu, made(tmp_path, MIB, [])])
    series = {"ask": "series", "tier": "gpu", "by": "owner", "start": 0, "end": 100, "columns": 50}
    bands = [[band["name"] for band in screen.answer(series | {"run": run}).facts["bands"]] for run in (0, 1)]
    assert bands == [["a"], []]
    assert screen.answer({"ask": "run", "run": 1}).facts["tiers"] == ["gpu", "pageable"]


def test_a_figure_has_a_line_a_way_on_the_shared_axis(tmp_path: Path) -> None:
    sizes = [(10 * MIB, {"x": 1}), (14 * MIB, {"x": 1}), (90 * MIB, {"x": 2})]
    runs = [made(tmp_path, size, [phase("p", 1, 50)], config) for size, config in sizes]
    [axes] = Comparison(runs).figure().axes
    assert axes.get_legend_handles_labels()[1] == ["made, x 1 (2 runs)", "made, x 2"]
    highest = [np.asarray(line.get_ydata()).max() for line in axes.get_lines()]
    assert highest == [15 * MIB, 93 * MIB]  # the median of two is between them
    assert len(axes.collections) == 1
    with pytest.raises(UsageError, match="nothing in a tier 'gpu'"):
        Comparison(runs).figure("gpu")


def test_two_to_six_runs_are_shown(tmp_path: Path) -> None:
    runs = [made(tmp_path, MIB * number, [], {"x": number}) for number in range(1, 8)]
    with pytest.raises(UsageError, match="2 to 6 runs, not 7"):
        Comparison(runs).view()
    shown = Comparison(runs[:2]).view().still()
    assert "a: 1.00 MiB to 2.00 MiB" in shown["text/plain"]
    assert shown["image/svg+xml"].count("<g ") == 2
    assert "srcdoc" in shown["text/html"]
    with pytest.raises(UsageError, match="nothing in a tier 'gpu'"):
        Comparison(runs[:2]).view("gpu")
