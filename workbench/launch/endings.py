"""How a recorded process ended, in words."""

from __future__ import annotations

import signal
from typing import Any

from workbench.run import manifest as manifests
from workbench.units import format_bytes

NAMED = 3  # owners


def ending(code: int, who: str = "the program") -> tuple[str, str | None]:
    """Gives the status and the error of a run whose process ended with `code`."""
    if code == 0:
        return manifests.COMPLETE, None
    if code > 0:
        return manifests.FAILED, f"{who} ended with exit code {code}"
    hint = ": the host may have been out of memory" if -code == signal.SIGKILL else ""
    return manifests.INCOMPLETE, f"{who} was killed by {signal.Signals(-code).name}{hint}"


def largest_then(error: dict[str, Any]) -> str:
    """Gives where a run's error happened, and who had most memory then."""
    where = f"; in phase {error['phase']}" if error.get("phase") else ""
    owners = [(size, f"{owner} ({tier})") for tier, by in error.get("alive", {}).items() for owner, size in by.items()]
    most = ", ".join(f"{who} {format_bytes(size)}" for size, who in sorted(owners, reverse=True)[:NAMED])
    return f"{where}; most memory then: {most}" if most else where
