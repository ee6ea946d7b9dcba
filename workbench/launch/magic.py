"""`%%record NAME`: record what a notebook cell does, in the notebook's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

from workbench.launch.recording import recording
from workbench.run.run import Run

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def add_magic(shell: InteractiveShell) -> None:
    """Add the cell magic `%%record` to a shell."""

    def record(line: str, cell: str) -> Run | None:
        """Record the cell: `%%record NAME`. The recording is `rec` in the cell, and the run is the cell's value."""
        with recording(line.strip() or "cell") as rec:
            shell.user_ns["rec"] = rec
            with mock.patch.object(shell, "_showtraceback"):  # an error is shown once, by the cell that has the magic
                done = shell.run_cell(cell)  # type: ignore[no-untyped-call]
            done.raise_error()
        return rec.run

    shell.register_magic_function(record, magic_kind="cell")  # type: ignore[call-arg, arg-type]
