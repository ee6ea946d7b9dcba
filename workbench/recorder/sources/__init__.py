"""What watches memory by itself: each source on its own, each saying what it cannot see here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from workbench.errors import WorkbenchError
from workbench.recorder.native import Spool

if TYPE_CHECKING:
    from workbench.recorder.settings import Settings


class Unavailable(WorkbenchError):
    """A source cannot be had here; the message says why and what would help."""


class Source(Protocol):
    """Something that writes events of one kind into the spool."""

    name: str

    def attach(self, spool: Spool, late: bool) -> list[str]:
        """Start; returns a line for each thing it cannot see here. Raises `Unavailable` where it can see nothing.

        `late`: the process has run before, so that memory may be in use already.
        """
        ...

    def flush(self) -> None:
        """Everything that happened before the call is in the ring when it returns."""
        ...

    def detach(self) -> list[str]:
        """Stop; returns a line for each thing that it could not see meanwhile. May be called again."""
        ...


def all_sources(settings: Settings, ran_out: Callable[[str, str], None]) -> list[Source]:
    """Every source that the settings do not leave out, in the order in which they start.

    `ran_out`: called with what was asked for and the tier that did not have it.
    """
    from workbench.recorder.sources.driver import Driver
    from workbench.recorder.sources.host import Host
    from workbench.recorder.sources.torch_blocks import TorchBlocks

    known: list[Source] = [Host(settings.stacks), Driver(), TorchBlocks(settings.block_minimum, ran_out)]
    if settings.copies:
        from workbench.recorder.sources.copies import Copies

        known.append(Copies())
    return [source for source in known if source.name not in settings.without]
