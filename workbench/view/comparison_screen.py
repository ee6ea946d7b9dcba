"""What a screen asks of compared runs, and the answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from workbench.compare.evidence import evidence
from workbench.compare.ranking import BY, ranked
from workbench.errors import UsageError
from workbench.run import metrics, schema
from workbench.run.run import Run
from workbench.view.alignment import align
from workbench.view.crossing import Answer
from workbench.view.screen import Screen
from workbench.view.ways import Way, settings_of, ways_of

MOST_RUNS = 6
LINES = (  # of the ways, told apart by colour-blind eyes: Okabe and Ito's, on light and on dark ground
    ("#0072B2", "#56B4E9"),
    ("#D55E00", "#F28E4B"),
    ("#009E73", "#2CC79A"),
    ("#CC79A7", "#DE9CC0"),
    ("#7A5C00", "#E6C24D"),
    ("#444444", "#C8C8C8"),
)


class ComparisonScreen:
    """Answers questions about two to six runs; one that names a `run` is that run's own."""

    def __init__(self, runs: Sequence[Run]) -> None:
        if not 2 <= len(runs) <= MOST_RUNS:
            raise UsageError(f"a comparison shows 2 to {MOST_RUNS} runs, not {len(runs)}")
        self.runs = list(runs)
        self.screens = [Screen(run) for run in runs]
        self.ways = ways_of(runs)
        self.tiers = [tier for tier in schema.TIERS if any(tier in screen.tiers for screen in self.screens)]
        for screen in self.screens:
            screen.tiers = self.tiers  # a run that has nothing in one of them is shown with nothing in it

    def answer(self, question: dict[str, Any]) -> Answer:
        """The answer to `{"ask": …}`; an error is an answer too."""
        if question.get("ask") == "comparison":
            return self.head()
        if question.get("ask") == "deltas":
            return self.deltas(question)
        if question.get("ask") == "speeds":
            return Answer({"speeds": [self._speed(run) for run in self.runs]}, {})
        place = question.get("run")
        if not isinstance(place, int) or not 0 <= place < len(self.screens):
            return Answer({"error": f"there is no run {place!r} among {len(self.screens)}"}, {})
        return self.screens[place].answer(question)

    def head(self) -> Answer:
        """Which runs they are, what the ways differ in, and how their times lie on one axis."""
        alignment = align(self.screens)
        facts = {
            "runs": [{"id": run.id, "name": run.manifest.name, "machine": run.manifest.machine} for run in self.runs],
            "ways": [
                {"name": way.name, "runs": way.runs, "light": light, "dark": dark}
                for way, (light, dark) in zip(self.ways, LINES, strict=False)
            ],
            "settings": [{"name": name, "values": values} for name, values in settings_of(self.runs, self.ways)],
            "tiers": self.tiers,
            "by": list(BY),
            "own": alignment.own,
            "shared": alignment.shared,
        }
        return Answer(facts, {})

    def machines(self, way: Way) -> list[str]:
        """Where and when the runs of a way were made."""
        return list(dict.fromkeys(self.runs[run].manifest.machine for run in way.runs))

    def _speed(self, run: Run) -> dict[str, Any]:
        """How fast its engine was, what it took at most, and whether its settings took effect."""
        found = metrics.summary(run)
        names = ("tokens_per_s", "first_token_s", "between_s")
        return {
            "peaks": found["peak_bytes"],
            "metrics": {name: found[name] if math.isfinite(found[name]) else None for name in names},
            "evidence": [vars(one) for one in evidence(run)],
        }

    def deltas(self, question: dict[str, Any]) -> Answer:
        """What sets a way apart from the first, what is beyond noise first; by owner, phase, or both."""
        tier, by, way = str(question.get("tier")), str(question.get("by")), int(question.get("way", 1))
        if tier not in self.tiers or by not in BY or not 0 < way < len(self.ways):
            return Answer({"error": f"there is nothing to rank of way {way} in tier {tier!r} by {by!r}"}, {})
        base, other = ([self.runs[place] for place in self.ways[one].runs] for one in (0, way))
        found = [one for one in ranked(base, other, tier, by) if one.difference or one.noise]
        columns: dict[str, Any] = {
            "what": [one.what for one in found],
            "base": np.array([median(one.base) for one in found], dtype=np.float64),
            "other": np.array([median(one.other) for one in found], dtype=np.float64),
            "noise": np.array([np.nan if one.noise is None else one.noise for one in found], dtype=np.float64),
            "is_noise": np.array([one.is_noise for one in found], dtype=np.int32),
        }
        return Answer({"tier": tier, "by": by, "way": way}, columns)
