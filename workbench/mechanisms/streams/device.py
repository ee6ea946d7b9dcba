"""What streams need of a device. Streams and events are numbers; a stream's queue has limited room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from workbench.errors import WorkbenchError


class DeviceError(WorkbenchError):
    """The device refused a call, or what was submitted to it failed."""


class Device(Protocol):
    """Streams, events and copies of one device. Every call may raise `DeviceError`; what submits may wait for room."""

    number: int

    def make_stream(self) -> int:
        """A stream that is distinct from all others."""

    def destroy_stream(self, stream: int) -> None: ...

    def make_event(self) -> int:
        """An event that knows when it happened."""

    def destroy_event(self, event: int) -> None: ...

    def record(self, event: int, stream: int) -> None:
        """Have the event happen when everything before it on the stream is over."""

    def wait(self, stream: int, event: int) -> None:
        """Have what comes next on the stream wait for the event, as it was last recorded."""

    def hand_on(
        self,
        stream: int,
        waits: Sequence[int],
        begin: int,
        target: int,
        source: int,
        size: int,
        direction: int,
        end: int,
    ) -> tuple[int, int]:
        """Copy `size` bytes between two addresses, in the order of the stream, after events that it waits for.

        Records an event before, where `begin` is not 0, and one after. Gives when, and how long that took, in ns.
        """

    def has_happened(self, event: int) -> bool:
        """Whether the event, as it was last recorded, has happened."""

    def synchronise(self, stream: int) -> None:
        """Wait until everything on the stream is over."""

    def time_ns(self, event: int) -> int:
        """When an event happened, on the one clock of a run."""

    def calibrate(self) -> None:
        """Hold the device's clock to the host's, if that was long ago. Called while nothing is under way."""
