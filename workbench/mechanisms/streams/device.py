"""What streams need of a device: its functions, which native code calls, and what its answers mean."""

from __future__ import annotations

from typing import Protocol

from workbench.errors import WorkbenchError


class DeviceError(WorkbenchError):
    """The device refused a call, or what was submitted to it failed."""


class Device(Protocol):
    """A device that streams are made on."""

    number: int
    functions: int  # the address of a `struct wb_device`
    context: int  # which its calls are made in; 0: none is needed

    def said(self, status: int) -> str:
        """Gives what a status other than 0 means."""
