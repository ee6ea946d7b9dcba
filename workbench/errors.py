"""What can go wrong in the user's sight: one line each, caught once, in the command line's main."""

from __future__ import annotations

from collections.abc import Iterable


class WorkbenchError(Exception):
    """Says in one line what went wrong, with which value, and what to do."""

    exit_code = 1


class UsageError(WorkbenchError):
    """What was asked for does not exist or does not fit: nothing has been done yet."""

    exit_code = 2


class CommandError(UsageError):
    """A program can not be started; the exit code is a shell's."""

    def __init__(self, what: str, exit_code: int) -> None:
        super().__init__(what)
        self.exit_code = exit_code


class RunError(WorkbenchError):
    """A run's files can not be written or read as they are."""


class MechanismError(WorkbenchError):
    """A process group, page-locked memory or a stream could not be had, or failed in use."""


class EngineError(WorkbenchError):
    """An engine could not be loaded, or failed while it ran."""


def short(value: object) -> str:
    """Gives a value as a message shows it: in one line, without the middle of what is long."""
    from reprlib import Repr  # every recorded program loads this file, and few make mistakes

    shorter = Repr()
    shorter.maxstring = shorter.maxother = 60
    try:
        return " ".join(shorter.repr(value).split())
    except ValueError:  # Python refuses to write it out
        return "a number of thousands of digits"


def nearest(name: object, known: Iterable[str]) -> str:
    """Gives the tail of a message about an unknown name: the name it should have been, or all there are."""
    from difflib import get_close_matches

    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5) if isinstance(name, str) else []
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there are none"
