"""The answer of the pinned-memory study, from runs that came with the workbench or that are made up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.unit.builders import MIB, event, written
from workbench.mechanisms.host_evidence import FREED, PHASE
from workbench.run.run import Run
from workbench.studies import base
from workbench.studies.base import Findings, Outcome
from workbench.studies.pinned_memory import study

VARIANTS = {variant.name: variant for variant in study().variants}


def pinned(folder: Path, arm: str, sizes: Sequence[int]) -> Run:
    """A run of the program with these sizes, in MiB: each had and given back in a phase of its own."""
    events, phases = [], []
    for number, size in enumerate(sizes):
        edges = (number * 100, number * 100 + 10, number * 100 + 20)
        for (start, end), name, kind in zip(pairwise(edges), (PHASE, FREED), ("alloc", "free"), strict=True):
            phases.append({"name": name, "start_ns": start, "end_ns": end, "process": 1, "depth": 0})
            events.append(event(start + 5, kind, size * MIB, 1 << 20, layer="driver", tier="pinned"))
    run = written(folder, f"pinned-memory-{arm}", events=events, phases=phases)
    rows = [{"asked": size * MIB, "allocate_s": 0.5, "free_s": 0.1} for size in sizes]
    run.manifest.notes["measured"] = {"arm": arm, "rows": rows}
    run.manifest.write(run.folder)
    return run


def test_the_recorded_page_locked_memory_is_told_of_with_its_spread() -> None:
    found = Findings(study(), base._before(study(), study().variants))
    [alloc] = [sentence for sentence in found.answer if "host-alloc takes" in sentence]
    assert "host-alloc takes 1.00 GiB for 1025 MiB (1.000 times), had in 331 to 498 ms (375 ms less than" in alloc
    assert alloc.endswith("copies at 54.3 to 55.5 GB/s to the GPU, 54.3 to 55.4 GB/s back")
    assert "freed in 87.7 to 148 ms; copies" in alloc
    [pool] = [sentence for sentence in found.answer if "pinned-pool takes" in sentence]
    assert "takes 2.00 GiB for 1025 MiB (1.998 times)" in pool
    assert "freed in 41.5 to 57.0 us and kept; copies" in pool
    [exact] = [sentence for sentence in found.answer if "pinned-pool-exact takes" in sentence]
    assert "freed in 86.8 to 137 ms; copies" in exact


def test_a_size_that_only_some_runs_have_is_told_of_beside_those_that_have_it(tmp_path: Path) -> None:
    small, large = ([1], [1, 65])
    for pool, alloc, says in ((small, large, ""), (large, large, " (the same as pinned-pool)")):
        base_ = Outcome(VARIANTS["pinned-pool"], [pinned(tmp_path, "pinned-pool", pool)])
        runs = [pinned(tmp_path, "host-alloc", sizes) for sizes in (small, alloc)]
        told = study().answer([base_, Outcome(VARIANTS["host-alloc"], runs)])[1]
        assert told == f"host-alloc takes 65.00 MiB for 65 MiB (1.000 times), had in 500 ms{says}, freed in 100 ms"


@pytest.mark.parametrize("how", ["incomplete", "a table lacks", "no manifest"])
def test_recorded_runs_that_are_not_whole_are_left_out_with_a_line(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "RECORDED", tmp_path)
    whole, broken = (pinned(tmp_path, arm, [1]) for arm in ("pinned-pool", "host-alloc"))
    if how == "incomplete":
        broken.manifest.status = how
        broken.manifest.write(broken.folder)
    elif how == "a table lacks":
        (broken.folder / "events.parquet").unlink()
    else:
        (broken.folder / "manifest.json").write_text("{")
    told: list[str] = []
    found = base._before(study(), study().variants, told.append)
    assert [run.id for outcome in found for run in outcome.runs] == [whole.id]
    [line] = told
    assert line.startswith("a run that was recorded before is left out: ")
    assert broken.id in line
