"""What sets two ways of running apart, ranked, with what repeats of the same way differ by among themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from workbench.run.run import Run

Held = dict[str, int]
BY: dict[str, Callable[[Run, str], Held]] = {}
"""What a difference can be told by: owner, phase, or both."""


@dataclass(frozen=True)
class Delta:
    """What one owner, one phase, or an owner in a phase takes in the runs of one way and in those of the other."""

    what: str
    tier: str
    base: tuple[int, ...]  # bytes, one a run
    other: tuple[int, ...]

    @property
    def difference(self) -> int:
        """Bytes that the other way takes more, median against median."""
        return round(median(self.other) - median(self.base))

    @property
    def noise(self) -> int | None:
        """The most that runs of one way differ by among themselves; None: one run has nothing to differ from."""
        found = noise(self.base, self.other)
        return None if found is None else int(found)

    @property
    def is_noise(self) -> bool:
        """Whether repeats of the same way differ as much."""
        return is_noise(self.base, self.other)

    def document(self) -> dict[str, Any]:
        """The difference as plain data."""
        return {
            "what": self.what,
            "tier": self.tier,
            "base": list(self.base),
            "other": list(self.other),
            "difference": self.difference,
            "noise": self.noise,
            "is_noise": self.is_noise,
        }


def noise(base: Sequence[float], other: Sequence[float]) -> float | None:
    """Gives the most that repeats of one way differ by among themselves; None: there are none."""
    if len(base) < 2 and len(other) < 2:
        return None
    return max(max(values) - min(values) for values in (base, other))


def is_noise(base: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two ways differ by no more than repeats of one do."""
    most = noise(base, other)
    return most is not None and abs(median(other) - median(base)) <= most


def ranked(base: Sequence[Run], other: Sequence[Run], tier: str, by: str = "owner") -> list[Delta]:
    """Gives what differs in a tier, what is beyond noise first, then the largest; `by` is a key of `BY`."""
    ours, theirs = [BY[by](run, tier) for run in base], [BY[by](run, tier) for run in other]
    deltas = (Delta(name, tier, _of(ours, name), _of(theirs, name)) for name in _names([*ours, *theirs]))
    return sorted(deltas, key=lambda one: (one.is_noise, -abs(one.difference), one.what))


def whole(base: Sequence[Run], other: Sequence[Run], tier: str, without: str | None = None) -> Delta:
    """Gives the difference of all that the runs' ledgers name, or all but one owner's, at their fullest edges."""
    ours, theirs = (tuple(_all_but(without, run, tier) for run in runs) for runs in (base, other))
    return Delta("all", tier, ours, theirs)


def _all_but(without: str | None, run: Run, tier: str) -> int:
    return sum(size for owner, size in _owners(run, tier).items() if owner != without)


def _of(held: Iterable[Held], name: str) -> tuple[int, ...]:
    return tuple(one.get(name, 0) for one in held)


def _names(held: Iterable[Held]) -> list[str]:
    return list(dict.fromkeys(name for one in held for name in one))


def _owners(run: Run, tier: str) -> Held:
    """What each owner holds at the fullest phase edge."""
    return run.ledger(tier).by_owner()


def _phases(run: Run, tier: str) -> Held:
    """By how much what is held grew in each phase, less what it grew in the phases inside."""
    sums = {phase: sum(grown.values()) for phase, grown in _growth(run, tier).items()}
    return {phase: size for phase, size in sums.items() if size}


def _both(run: Run, tier: str) -> Held:
    """By how much each owner grew in each phase, less the phases inside."""
    return {
        f"{owner} in {phase}": size
        for phase, grown in _growth(run, tier).items()
        for owner, size in grown.items()
        if size
    }


def _growth(run: Run, tier: str) -> dict[str, Held]:
    phases = [phase for phase in run.table("phases").to_pylist() if phase["end_ns"] is not None]
    grown: dict[str, Held] = {}
    for phase in phases:
        before, after = (run.ledger(tier, phase[edge]).by_owner() for edge in ("start_ns", "end_ns"))
        around = _innermost([other for other in phases if _is_in(phase, other)])
        for owner in _names([before, after]):
            size = after.get(owner, 0) - before.get(owner, 0)
            _add(grown, phase["name"], owner, size)
            if around:
                _add(grown, around["name"], owner, -size)
    return grown


def _add(grown: dict[str, Held], phase: str, owner: str, size: int) -> None:
    mine = grown.setdefault(phase, {})
    mine[owner] = mine.get(owner, 0) + size


def _innermost(phases: list[dict[str, Any]]) -> dict[str, Any] | None:
    return max(phases, key=lambda phase: int(phase["depth"]), default=None)


def _is_in(inner: dict[str, Any], outer: dict[str, Any]) -> bool:
    return bool(
        inner is not outer
        and inner["process"] == outer["process"]
        and inner["depth"] > outer["depth"]
        and outer["start_ns"] <= inner["start_ns"]
        and inner["end_ns"] <= outer["end_ns"]
    )


BY |= {"owner": _owners, "phase": _phases, "owner and phase": _both}
