"""A study's notebook executed with parameters: the notebook with its outputs, one page, and the findings as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError, WorkbenchError
from workbench.report.notebooks import notebook
from workbench.studies import STUDIES
from workbench.studies.base import named
from workbench.view.findings import DATA

if TYPE_CHECKING:
    from nbformat import NotebookNode

FILES = (".ipynb", ".html", ".json")
CELL_S = 24 * 3600  # a cell that runs a study takes as long as its runs take


class ReportError(WorkbenchError):
    """A cell of a notebook failed; what was executed before it is kept."""


@dataclass(frozen=True)
class Report:
    """Where a report lies."""

    notebook: Path
    page: Path
    findings: Path

    @classmethod
    def at(cls, folder: Path, name: str) -> Report:
        """Gives the files of a report in a folder."""
        return cls(*(folder / f"{name}{suffix}" for suffix in FILES))


def report(study: str, settings: Sequence[str], folder: Path, *, overwrite: bool = False) -> Report:
    """Executes the notebook of a study with parameters such as `repeats=3`; writes what came of it into a folder."""
    named(study, STUDIES)
    _needs_packages()
    from workbench.report.parameters import chosen

    source = notebook(study)
    values = chosen(source, settings)
    files = Report.at(folder, study)
    _make_room(files, overwrite)
    failure = _execute(source, files.notebook, values)
    _write(files, study, values, failure)
    if failure:
        raise ReportError(f"{failure}; what was executed is in {files.page}")
    return files


def _needs_packages() -> None:
    for package in ("nbconvert", "papermill"):
        if not importlib.util.find_spec(package):
            raise UsageError(f"a report needs {package}: pip install memory-workbench[notebook]")


def _make_room(files: Report, overwrite: bool) -> None:
    there = next((path for path in vars(files).values() if path.exists()), None)
    if there and not overwrite:
        raise UsageError(f"{there} is there already: choose another --out, or give --overwrite")
    try:
        files.notebook.parent.mkdir(parents=True, exist_ok=True)
        for path in vars(files).values():
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"no report can be written into {files.notebook.parent}: {error.strerror or error}") from None


def _execute(source: Path, target: Path, values: dict[str, object]) -> str | None:
    """Executes a notebook; what is done of it is written cell by cell. Gives why it ended before its end."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    try:
        execute_notebook(source, target, values, stdout_file=_AboveTheBar(), execution_timeout=CELL_S)
    except PapermillExecutionError as error:
        return f"cell {error.cell_index + 1} of {source.stem} failed: {error.ename}: {' '.join(error.evalue.split())}"
    except (DeadKernelError, CellTimeoutError) as error:
        return f"{source.stem} was not executed to its end: {' '.join(str(error).split())}"
    return None


class _AboveTheBar:
    """What the notebook prints, on stderr, where the bar of its progress is too."""

    def write(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(text.rstrip("\n"), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def _write(files: Report, study: str, values: dict[str, object], failure: str | None) -> None:
    import nbformat

    from workbench.report.page import html_page

    executed = nbformat.read(files.notebook, as_version=4)
    files.page.write_text(html_page(executed, study), encoding="utf-8")
    document = {"study": study, "parameters": values, "error": failure, "findings": _found(executed)}
    files.findings.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _found(executed: NotebookNode) -> dict[str, Any] | None:
    """The findings that a notebook shows last."""
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    found = [output["data"][DATA] for output in outputs if DATA in output.get("data", {})]
    return found[-1] if found else None
