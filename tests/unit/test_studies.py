"""Studies: order, spread, noise and words, on runs that are made so that the answer is known."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from tests.unit.builders import MIB, gpu, written
from workbench.compare.ranking import Delta, ranked, whole
from workbench.errors import EngineError, RunError, UsageError
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.studies import STUDIES, base
from workbench.studies.base import BEFORE, HERE, Findings, Measure, Outcome, Study, Variant, do, named, pairs
from workbench.studies.telling import apart, difference, texts
from workbench.view.findings import NOISE, failed, html, not_run, table


def holding(folder: Path, nccl: int, modules: int, output: str = "x") -> Run:
    """A run in which two owners hold so many MiB of a GPU after a phase each."""
    events = [
        gpu(10, "alloc", nccl * MIB, 1 << 40, owner="libnccl.so.2"),
        gpu(30, "alloc", modules * MIB, 1 << 50, owner="modules"),
    ]
    phases = [
        {"name": name, "start_ns": start, "end_ns": end, "process": 1, "depth": depth}
        for name, start, end, depth in (("program", 0, 50, 0), ("group", 5, 15, 1), ("load", 20, 40, 1))
    ]
    run = written(folder, events=[event for event in events if event["bytes"]], phases=phases)
    run.manifest.gpus = [{"name": "made up"}]
    run.manifest.notes["outputs"] = [output]
    return run


@pytest.fixture
def gloo(tmp_path: Path) -> list[Run]:
    return [holding(tmp_path, 0, size) for size in (100, 101, 103)]


@pytest.fixture
def eager(tmp_path: Path) -> list[Run]:
    return [holding(tmp_path, 388, size) for size in (102, 101, 102)]


def variant(name: str, against: str | None = None) -> Variant:
    def start(run: str, store: Store | None) -> Run:
        raise EngineError(f"{run} is not to be run")

    return Variant(name, start, lambda: None, against)


def test_owners_are_ranked_and_noise_is_last(gloo: list[Run], eager: list[Run]) -> None:
    nccl, modules = ranked(gloo, eager, "gpu")
    assert (nccl.what, nccl.difference, nccl.noise, nccl.is_noise) == ("libnccl.so.2", 388 * MIB, 0, False)
    assert (modules.what, modules.difference, modules.noise, modules.is_noise) == ("modules", MIB, 3 * MIB, True)
    assert whole(gloo, eager, "gpu").difference == 389 * MIB
    assert whole(gloo, eager, "gpu", without="libnccl.so.2").is_noise


def test_growth_is_told_by_phase_and_by_owner_in_it(gloo: list[Run], eager: list[Run]) -> None:
    assert [one.what for one in ranked(gloo, eager, "gpu", by="phase")] == ["group", "load"]
    first = ranked(gloo, eager, "gpu", by="owner and phase")[0]
    assert (first.what, first.other) == ("libnccl.so.2 in group", (388 * MIB,) * 3)


def test_a_phase_grows_by_what_the_phases_inside_did_not(tmp_path: Path) -> None:
    events = [gpu(at, "alloc", size * MIB, at << 40, owner="a") for at, size in ((12, 1), (22, 10), (42, 100))]
    spans = [("all", 0, 90, 0), ("init", 10, 50, 1), ("group", 20, 30, 2), ("group", 32, 40, 2)]
    phases = [
        {"name": name, "start_ns": start, "end_ns": end, "process": 1, "depth": depth}
        for name, start, end, depth in spans
    ]
    runs = [written(tmp_path, events=made, phases=phases) for made in (events[:0], events)]
    found = ranked(runs[:1], runs[1:], "gpu", by="owner and phase")
    assert [(one.what, one.difference // MIB) for one in found] == [("a in init", 101), ("a in group", 10)]
    assert [one.what for one in ranked(runs[:1], runs[1:], "gpu", by="phase")] == ["init", "group"]


def test_one_run_each_knows_no_noise() -> None:
    alone = Delta("x", "gpu", (5,), (5,))
    assert (alone.noise, alone.is_noise) == (None, False)
    assert Delta("x", "gpu", (5, 7), (6,)).is_noise
    assert not Delta("x", "gpu", (5, 7), (9,)).is_noise


def test_a_difference_in_words(gloo: list[Run], eager: list[Run]) -> None:
    base_, other = Outcome(variant("gloo"), gloo), Outcome(variant("nccl-eager"), eager)
    assert difference(base_, other, "gpu") == (
        "nccl-eager takes 389 MiB more gpu memory than gloo: 388 by libnccl.so.2 "
        "(runs of one variant differ in this by up to 3.00 MiB)"
    )
    assert texts(base_, other) == "text identical"
    eager[1].manifest.notes["outputs"] = ["y"]
    assert texts(base_, other) == "text differs"
    del eager[1].manifest.notes["outputs"]
    assert texts(base_, other) == "text not recorded"


def test_a_difference_that_leaves_an_owner_out_says_so_and_its_spread_is_of_the_rest(
    gloo: list[Run], eager: list[Run]
) -> None:
    base_, other = Outcome(variant("gloo"), gloo), Outcome(variant("nccl-eager"), eager)
    assert difference(base_, other, "gpu", without="modules") == (
        "nccl-eager takes 388 MiB more gpu memory beside modules's than gloo: 388 by libnccl.so.2 "
        "(runs of one variant do not differ in this)"
    )


def test_what_is_the_same_is_called_noise_only_where_something_differs(gloo: list[Run], eager: list[Run]) -> None:
    base_, other = Outcome(variant("a"), gloo), Outcome(variant("b"), eager)
    assert difference(base_, base_, "gpu", without="modules") == (
        "a and a take the same of gpu memory beside modules's (runs of one variant do not differ in this)"
    )
    spread = "(runs of one variant differ in this by up to 3.00 MiB)"
    assert difference(base_, base_, "gpu") == f"a and a take the same of gpu memory {spread}"
    assert difference(base_, other, "gpu", without="libnccl.so.2") == (
        f"b and a take the same of gpu memory beside libnccl.so.2's: what differs is noise {spread}"
    )


def test_repeats_are_in_turn_and_a_failure_ends_only_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "RECORDED", tmp_path / "nothing")
    order: list[str] = []

    def starts(name: str, size: int) -> Variant:
        def start(run: str, store: Store | None) -> Run:
            order.append(run)
            return holding(tmp_path, size, 0)

        return Variant(name, start, lambda: None, None if name == "a" else "a")

    refused = Variant("d", starts("d", 1).start, lambda: "it needs a moon", "a")
    study = Study(
        "s",
        "?",
        (starts("a", 1), starts("b", 2), variant("c", "a"), refused),
        lambda run: {"held": Measure(run.ledger("gpu").explained, "B")},
        lambda outcomes: [f"{one.variant.name} after {base_.variant.name}" for base_, one in pairs(outcomes)],
    )
    found = do(study, 2, Store(tmp_path), lambda _: None).document()
    assert order == ["s-a", "s-b", "s-a", "s-b"]
    assert found["answer"] == ["b after a"]
    a, b, c, d = found["variants"]
    numbers = {"median": 2 * MIB, "least": 2 * MIB, "most": 2 * MIB, "unit": "B", "runs": 2, "is_noise": False}
    assert b["numbers"]["held"] == numbers
    assert (len(a["runs"]), c["runs"], c["why"], c["failures"]) == (2, [], None, ["s-c is not to be run"] * 2)
    assert (d["why"], d["failures"]) == ("it needs a moon", [])
    with pytest.raises(UsageError, match="at least 1 run"):
        do(study, 0)


def test_a_variant_that_fails_once_is_repeated_as_often_and_is_not_called_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "RECORDED", tmp_path / "recorded")
    written(tmp_path / "recorded", "s-a")

    def fails(name: str, *at: int) -> Variant:
        tries = count(1)

        def start(run: str, store: Store | None) -> Run:
            if (number := next(tries)) in at:
                raise EngineError(f"boom {number}")
            made = written(tmp_path, run)
            made.manifest.status = "incomplete" if -number in at else "complete"
            return made

        return Variant(name, start, lambda: None)

    study = Study("s", "?", (fails("a", 2), fails("b", -1, 3), fails("c")), lambda _: {}, lambda _: [])
    found = do(study, 3, Store(tmp_path), lambda _: None)
    b = found.outcomes[1].failures[0]
    assert b.startswith("incomplete; the run is ")
    assert failed(found) == ["a: failed in 1 of 3: boom 2", f"b: failed in 2 of 3, first: {b}"]
    assert "<p>a: failed in 1 of 3: boom 2</p>" in html(found)
    assert not_run(found) == []
    assert [len(one.runs) for one in found.outcomes] == [2, 1, 3]  # and no recorded ones: each was had here


@pytest.mark.parametrize(
    ("only", "shows"),
    [
        ("", ["a", "b", "c", "d"]),  # c can not run here, and only runs of one machine compare
        ("c", ["a", "c"]),  # with what it is compared with
        ("d", []),
        ("a", []),
    ],
)
def test_runs_recorded_before_are_of_what_was_asked_for_where_that_can_not_run(
    only: str, shows: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "RECORDED", tmp_path / "recorded")

    def ways(name: str) -> Variant:
        written(tmp_path / "recorded", f"s-{name}")
        why = "it needs a moon" if name == "c" else None
        return Variant(name, lambda *_: written(tmp_path, name), lambda: why, None if name == "a" else "a")

    study = Study("s", "?", tuple(map(ways, "abcd")), lambda _: {}, lambda _: [])
    found = do(study, 1, Store(tmp_path), lambda _: None, only=only)
    assert [one.variant.name for one in found.outcomes if one.where == BEFORE] == shows


@pytest.mark.parametrize(
    ("only", "runs"),
    [("b", ["a", "b"]), ("a", ["a"]), ("c", []), ("d", ["a", "d"]), ("", ["a", "b", "d"])],  # c can not run here
)
def test_with_what_was_asked_for_runs_what_it_is_compared_with(
    only: str, runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "RECORDED", tmp_path / "nothing")

    def way(name: str) -> Variant:
        why = "it needs a moon" if name == "c" else None
        return Variant(name, lambda run, _: written(tmp_path, run), lambda: why, None if name == "a" else "a")

    def answer(outcomes: list[Outcome]) -> list[str]:
        return [f"{other.variant.name} after {base_.variant.name}" for base_, other in pairs(outcomes)]

    found = do(
        Study("s", "?", tuple(map(way, "abcd")), lambda _: {}, answer), 2, Store(tmp_path), lambda _: None, only=only
    )
    assert [one.variant.name for one in found.outcomes if one.runs] == runs
    assert found.answer == [f"{name} after a" for name in runs[1:]]
    left_out = [one.variant.name for one in found.outcomes if (one.why or "").startswith("left out: ")]
    assert left_out == [name for name in "abcd" if name not in {*runs, only or "c"}]


def test_a_difference_within_the_repeats_is_called_noise(tmp_path: Path) -> None:
    measured = {"a": [10.0, 14.0], "b": [13.0, 15.0], "c": [20.0, 21.0]}

    def outcome(name: str) -> Outcome:
        runs = [written(tmp_path, f"{name}-{value}") for value in measured[name]]
        return Outcome(variant(name, None if name == "a" else "a"), runs)

    def measure(run: Run) -> dict[str, Measure]:
        return {"time": Measure(float(run.manifest.name.partition("-")[2]), "s")}

    study = Study("s", "?", (), measure, lambda _: [])
    found = Findings(study, [outcome(name) for name in measured])
    said = [found.numbers(one)["time"].get("is_noise") for one in found.outcomes]
    assert said == [None, True, False]  # of what nothing is compared with, nothing is said
    cells = [row[-1] for row in table(found)[1:]]
    assert [cell.endswith("noise") for cell in cells] == [False, True, False]
    assert NOISE in html(found)
    assert NOISE not in html(Findings(study, found.outcomes[::2]))
    assert apart([10.0, 14.0], [13.0, 15.0]) == "within the noise of"
    assert apart([10.0, 14.0], [20.0, 21.0]) == "8.50 s more than"
    assert apart([10.0], [9.0]) == "1.00 s less than"  # one run each: the answer says once that noise is not known


def test_a_number_that_only_some_repeats_have_is_told_with_how_many(tmp_path: Path) -> None:
    measured = [{"time": 1.0, "last": 5.0}, {"time": 1.0, "first blocked": 7.0, "last": 5.0}, {"time": 1.0}]

    def measure(run: Run) -> dict[str, Measure]:
        return {name: Measure(value, "s") for name, value in measured[int(run.manifest.name)].items()}

    study = Study("s", "?", (), measure, lambda _: [])
    one = Outcome(variant("a"), [written(tmp_path, str(number)) for number in range(3)])
    numbers = Findings(study, [one]).document()["variants"][0]["numbers"]
    assert [(name, number["median"], number["runs"]) for name, number in numbers.items()] == [
        ("time", 1.0, 3),
        ("first blocked", 7.0, 1),
        ("last", 5.0, 2),
    ]
    cells = {name: cell.replace("\N{NO-BREAK SPACE}", " ") for name, cell in table(Findings(study, [one]))[1:]}
    assert cells == {
        "time": "1.00 s",
        "first blocked": "7.00 s\nin 1 of 3 runs",
        "last": "5.00 s\nin 2 of 3 runs",
    }


def test_what_does_not_differ_is_the_same_and_no_number_compares_with_none() -> None:
    assert apart([1.0], [1.0]) == apart([1.0, 1.0], [1.0, 1.0]) == apart([1.0], [1.0 + 1e-9]) == "the same as"
    assert apart([1.0, 3.0], [1.0, 2.9]) == "within the noise of"
    assert apart([1.0], [float("nan")]) == apart([float("inf")], [1.0]) == "not comparable with"


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ((1,), ["one run, so noise is not known"]),
        ((1, 1, 1), ["one run each, so noise is not known"]),
        ((3, 1, 2), ["one run of b, so its own noise is not known"]),
        ((2, 2), []),
        ((), []),
    ],
)
@pytest.mark.parametrize("where", [HERE, BEFORE])
def test_an_answer_says_once_where_noise_is_not_known(
    gloo: list[Run], where: str, counts: tuple[int, ...], says: list[str]
) -> None:
    outcomes = [Outcome(variant(name), gloo[:count], where) for name, count in zip("abc", counts, strict=False)]
    machine = f"{outcomes[0].machine}: " if outcomes and where == BEFORE else ""
    found = Findings(Study("s", "?", (), lambda _: {}, lambda some: ["it is so"] * len(some)), outcomes)
    assert found.answer == [f"{machine}{sentence}" for sentence in ["it is so"] * len(outcomes) + says]


def test_differences_of_one_run_each_are_told_without_a_word_of_noise(gloo: list[Run], eager: list[Run]) -> None:
    base_, other = Outcome(variant("gloo"), gloo[:1]), Outcome(variant("nccl-eager"), eager[:1])
    said = "nccl-eager takes 390 MiB more gpu memory than gloo: 388 by libnccl.so.2, 2.0 by modules"
    assert difference(base_, other, "gpu") == said


def test_recorded_runs_answer_where_a_host_can_not() -> None:
    study = named("process-group", STUDIES)
    found = Findings(study, base._before(study, study.variants))
    assert {outcome.where for outcome in found.outcomes} == {BEFORE}
    assert all(outcome.machine == "NVIDIA H200, 2026-11-21" for outcome in found.outcomes)
    [eager] = [sentence for sentence in found.answer if "vllm-nccl-eager takes" in sentence]
    much = "takes 2824 MiB more gpu memory beside torch's than vllm-gloo: 2716 in 1358 allocations by libnccl.so.2"
    assert eager.startswith(f"NVIDIA H200, 2026-11-21: vllm-nccl-eager {much}")
    assert eager.endswith("(runs of one variant do not differ in this); text identical")  # in torch's they do


def test_a_folder_that_takes_no_run_is_told_before_any_is_begun(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told: list[str] = []
    for place in ("/dev/null", "/proc/x", tmp_path / "file"):
        with pytest.raises(RunError, match=f"no run can be written in {place}: .*; choose another --out"):
            do(Study("s", "?", (variant("a"),), lambda _: {}, lambda _: []), 3, Store(place), told.append)
    assert told == []
    Store(tmp_path / "new").refuse_unwritable()
    assert list((tmp_path / "new").iterdir()) == []


def test_unknown_studies_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'process-group'"):
        named("process-grup", STUDIES)
