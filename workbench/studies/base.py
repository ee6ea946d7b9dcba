"""What a study is, and how one is done: each variant in a fresh process, repeats in turn, beside runs recorded before.

Study(name, question, variants, measure, answer)  ->  do(study)  ->  Findings: outcomes, numbers, answer in words
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from workbench.compare.ranking import is_noise, noise
from workbench.config import EngineConfig, Workload
from workbench.engines import refuse
from workbench.errors import RunError, UsageError, WorkbenchError, nearest
from workbench.launch.generation import generate
from workbench.launch.programs import record_program
from workbench.recorder.settings import Settings
from workbench.run.manifest import COMPLETE
from workbench.run.run import Run
from workbench.run.store import Store

RECORDED = Store.recorded().folder
HERE, BEFORE = "here", "recorded before"
LEFT_OUT = "a run that was recorded before is left out"


@dataclass(frozen=True)
class Variant:
    """One way to run. `start` runs it once, in a fresh process, under a name and into a store."""

    name: str
    start: Callable[[str, Store | None], Run]
    why_not: Callable[[], str | None]  # it can not run on this host
    against: str | None = None  # the variant that it is compared with


@dataclass(frozen=True)
class Measure:
    """A number that every run of a study has."""

    value: float
    unit: str


@dataclass(frozen=True)
class Study:
    """A question, and the runs that answer it."""

    name: str
    question: str
    variants: tuple[Variant, ...]
    measure: Callable[[Run], dict[str, Measure]]
    answer: Callable[[list[Outcome]], list[str]]  # sentences, from the runs alone


@dataclass
class Outcome:
    """A variant and its runs."""

    variant: Variant
    runs: list[Run] = field(default_factory=list)
    where: str = HERE  # here | recorded before
    why: str | None = None  # it is not run here
    failures: list[str] = field(default_factory=list)  # of what was run here and ended otherwise than it should

    @property
    def machine(self) -> str:
        """Where and when the runs were made."""
        return self.runs[0].manifest.machine if self.runs else ""

    @property
    def failed(self) -> str | None:
        """In how many of its runs here it failed, and of what first."""
        if not self.failures:
            return None
        often = f"failed in {len(self.failures)} of {len(self.runs) + len(self.failures)}"
        return f"{often}{', first' * (len(self.failures) > 1)}: {self.failures[0]}"


@dataclass(frozen=True)
class Findings:
    """What a study found."""

    study: Study
    outcomes: list[Outcome]

    def document(self) -> dict[str, Any]:
        """The findings as plain data."""
        return {
            "study": self.study.name,
            "question": self.study.question,
            "answer": self.answer,
            "variants": [self._variant(outcome) for outcome in self.outcomes],
        }

    def runs(self, where: str = HERE) -> list[Run]:
        """The runs that were made here, or those recorded before."""
        return [run for outcome in self.outcomes if outcome.where == where for run in outcome.runs]

    @property
    def answer(self) -> list[str]:
        """The answer in words and numbers, computed from the runs; of other machines' runs it says where and when."""
        here, before = ([one for one in self.outcomes if one.runs and one.where == where] for where in (HERE, BEFORE))
        return self._told(here) + [f"{before[0].machine}: {sentence}" for sentence in self._told(before)]

    def _told(self, outcomes: list[Outcome]) -> list[str]:
        """The answer from runs of one place, and once what holds for every difference in it."""
        return [*self.study.answer(outcomes), *_unknown_noise(outcomes)] if outcomes else []

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        from workbench.view.findings import bundle

        return bundle(self)

    def numbers(self, outcome: Outcome) -> dict[str, dict[str, Any]]:
        """The numbers of a variant: the median of its runs that have it, how many do, the least and the most.

        Where there are repeats, also whether it is noise by what it differs from the variant that it is compared with.
        """
        base = next((base for base, one in pairs(self.outcomes) if one is outcome), None)
        others = self._measured(base) if base else {}
        return {name: _spread(some, others.get(name, [])) for name, some in self._measured(outcome).items()}

    def _measured(self, outcome: Outcome) -> dict[str, list[Measure]]:
        found = [self.study.measure(run) for run in outcome.runs]
        names = dict.fromkeys(name for one in sorted(found, key=len, reverse=True) for name in one)  # the fullest first
        return {name: [one[name] for one in found if name in one] for name in names}

    def _variant(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "name": outcome.variant.name,
            "against": outcome.variant.against,
            "where": outcome.where,
            "machine": outcome.machine,
            "why": outcome.why,
            "failures": outcome.failures,
            "runs": [run.id for run in outcome.runs],
            "numbers": self.numbers(outcome),
        }


def do(
    study: Study, repeats: int, store: Store | None = None, tell: Callable[[str], None] = print, only: str = ""
) -> Findings:
    """Runs every variant that this host can, `repeats` times in turn; where it can not run all, adds those recorded.

    Only those variants are asked for that have `only` in their names, and with them what they are compared with.
    """
    if repeats < 1:
        raise UsageError(f"a study needs at least 1 run of each variant, not {repeats}")
    asked = [variant for variant in study.variants if only in variant.name]
    if not asked:
        names = ", ".join(variant.name for variant in study.variants)
        raise UsageError(f"no variant of {study.name} has {only!r} in its name: {names}")
    to_run = _with_bases(study, asked)
    outcomes = [
        Outcome(variant, why=variant.why_not() if variant in to_run else _left_out(only)) for variant in study.variants
    ]
    if any(outcome.why is None for outcome in outcomes):
        (store or Store()).refuse_unwritable()
    for repeat in range(repeats):
        for outcome in outcomes:
            if outcome.why is None:
                tell(f"{study.name}: {outcome.variant.name}, {repeat + 1} of {repeats}")
                _run(study, outcome, store)
    is_lacking = any(not outcome.runs for outcome in outcomes if outcome.variant in to_run)
    return Findings(study, outcomes + (_before(study, asked, tell) if is_lacking else []))


def _with_bases(study: Study, asked: Sequence[Variant]) -> list[Variant]:
    """What was asked for, and what those of it that can run here are compared with."""
    against = {variant.against for variant in asked if variant.why_not() is None}
    return [variant for variant in study.variants if variant in asked or variant.name in against]


def _left_out(only: str) -> str:
    return f"left out: only those with {only!r} in their names were asked for"


def _run(study: Study, outcome: Outcome, store: Store | None) -> None:
    """A run that fails is a finding, and not the end of the others."""
    try:
        run = outcome.variant.start(f"{study.name}-{outcome.variant.name}", store)
    except WorkbenchError as error:
        outcome.failures.append(str(error))
        return
    if run.manifest.status == COMPLETE:
        outcome.runs.append(run)
    else:
        what = (run.manifest.error or {}).get("what", run.manifest.status)
        outcome.failures.append(f"{what}; the run is {run.folder}")


def _before(study: Study, asked: Sequence[Variant], tell: Callable[[str], None] = print) -> list[Outcome]:
    """What was recorded before of the variants that were asked for, and of those that they are compared with.

    Also of variants that can run here: only runs of one machine compare.
    """
    Store(RECORDED).runs(lambda error: tell(f"{LEFT_OUT}: {error}"))
    names = {name for variant in asked for name in (variant.name, variant.against)}
    variants = [variant for variant in study.variants if variant.name in names]
    found = [Outcome(variant, recorded(study, variant, tell), BEFORE) for variant in variants]
    return [outcome for outcome in found if outcome.runs]


def recorded(study: Study, variant: Variant, tell: Callable[[str], None] = print) -> list[Run]:
    """Gives the runs of a variant that come with the workbench and are whole; tells of those that are not."""
    name, whole = f"{study.name}-{variant.name}", []
    for run in (run for run in Store(RECORDED).runs() if run.manifest.name == name):
        if why := _why_not_whole(study, run):
            tell(f"{LEFT_OUT}: {why}")
        else:
            whole.append(run)
    return whole


def _why_not_whole(study: Study, run: Run) -> str | None:
    if run.manifest.status != COMPLETE:
        return f"{run.id} is {run.manifest.status}"
    try:
        study.measure(run)
    except RunError as error:
        return str(error)
    return None


def of_engine(name: str, config: EngineConfig, workload: Workload, against: str | None = None) -> Variant:
    """Gives the variant in which an engine answers a workload under a config."""

    def start(run: str, store: Store | None) -> Run:
        return generate(config, workload, name=run, store=store).run

    def why_not() -> str | None:
        try:
            refuse(config)
        except UsageError as error:
            return str(error)
        return None

    return Variant(name, start, why_not, against)


def of_program(
    name: str, command: Sequence[str], why_not: Callable[[], str | None], against: str | None = None
) -> Variant:
    """Gives the variant in which a program is run."""

    def start(run: str, store: Store | None) -> Run:
        return record_program(command, name=run, store=store, settings=Settings(), raises_interrupts=True)

    return Variant(name, start, why_not, against)


def pairs(outcomes: list[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Gives each outcome after the one that it is compared with, where both were had in the same place."""
    had = {(outcome.variant.name, outcome.where): outcome for outcome in outcomes}
    compared = ((had.get((one.variant.against or "", one.where)), one) for one in outcomes)
    return [(base, one) for base, one in compared if base is not None]


def _unknown_noise(outcomes: list[Outcome]) -> list[str]:
    """Of whose runs it is not known by how much they differ among themselves."""
    alone = [outcome.variant.name for outcome in outcomes if len(outcome.runs) == 1]
    if not alone:
        return []
    if len(alone) == len(outcomes):
        return [f"one run{' each' * (len(alone) > 1)}, so noise is not known"]
    return [f"one run of {', '.join(alone)}, so its own noise is not known"]


def named(name: str, studies: dict[str, Callable[[], Study]]) -> Study:
    """Gives the study of a name."""
    if name not in studies:
        raise UsageError(f"there is no study {name!r}: {nearest(name, studies)}")
    return studies[name]()


def _spread(measures: list[Measure], others: list[Measure]) -> dict[str, Any]:
    values, theirs = [one.value for one in measures], [one.value for one in others]
    found = {"median": median(values), "least": min(values), "most": max(values), "unit": measures[0].unit}
    found["runs"] = len(values)
    return found | ({"is_noise": is_noise(theirs, values)} if theirs and noise(theirs, values) is not None else {})
