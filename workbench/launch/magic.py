"""`%%record NAME`: record what a notebook cell does, in the notebook's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
            shell.run_cell(cell).raise_error()  # type: ignore[no-untyped-call]
        return rec.run

    shell.register_magic_function(record, magic_kind="cell")  # type: ignore[call-arg, arg-type]
