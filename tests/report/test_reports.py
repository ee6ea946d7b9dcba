"""Notebooks executed: each by itself, and studies as reports by the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from workbench.errors import UsageError
from workbench.report.batch import FILES, ReportError, report
from workbench.report.notebooks import FOLDER, copy_to, notebook
from workbench.report.page import LIVE, html_page
from workbench.report.parameters import TAG, chosen
from workbench.studies import STUDIES
from workbench.view.findings import DATA

NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
REMOTE = re.compile(r"""(?:src|href|import|url\()\s*=?\s*["']?(?:https?:)?//""")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", *arguments]
    return subprocess.run(call, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what is recorded; models stay where they are kept."""
    from workbench.config.models import models_folder

    (tmp_path / "home").mkdir()
    if "WORKBENCH_HOME" not in os.environ:
        models_folder().mkdir(parents=True, exist_ok=True)
    (tmp_path / "home" / "models").symlink_to(models_folder())
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "runs"


def test_there_is_a_notebook_for_every_study() -> None:
    assert set(NOTEBOOKS) == {"tour", "generate", *STUDIES}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_sources_have_no_outputs(name: str) -> None:
    cells = nbformat.read(notebook(name), as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum(TAG in cell.metadata.get("tags", ()) for cell in code) == (name != "tour")


@pytest.mark.parametrize("name", ["generate", "kv-streams"])  # the tour runs in JupyterLab, in tests/ui
def test_a_notebook_runs_by_papermill_alone(name: str, runs: Path, tmp_path: Path) -> None:
    executed = tmp_path / "executed.ipynb"
    parameters = ("-p", "max_tokens", "8") if name == "generate" else ()
    done = command("papermill", "--no-progress-bar", str(notebook(name)), str(executed), *parameters)
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    assert len(list(runs.glob("*/manifest.json"))) == {"generate": 1, "kv-streams": 0}[name]


@pytest.mark.parametrize("study", ["process-group", "pinned-memory"])
def test_a_report_is_a_notebook_a_page_and_findings(study: str, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    done = command("workbench", "report", study, "-p", f"store={tmp_path / 'own'}", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    assert "1 of 1" in done.stderr
    assert sorted(json.loads(done.stdout).values()) == sorted(str(out / f"{study}{suffix}") for suffix in FILES)
    found = json.loads((out / f"{study}.json").read_text())
    assert (found["error"], found["findings"]["study"]) == (None, study)
    here = [one for one in found["findings"]["variants"] if one["where"] == "here" and one["runs"]]
    assert here
    assert here[0]["numbers"]
    assert (tmp_path / "own" / here[0]["runs"][0]).is_dir()
    assert not runs.exists()
    page = (out / f"{study}.html").read_text()
    assert not REMOTE.search(re.sub(r'srcdoc="[^"]*"', "", page))
    assert page.count('<div data-workbench-static="') == 2  # the runs recorded before, and what was run here
    assert "NVIDIA H200" in page
    again = command("workbench", "report", study, "--out", str(out))
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


def test_a_failed_cell_leaves_what_was_executed(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cell 6 of process-group failed: UsageError: no variant") as caught:
        report("process-group", ["only=moon"], tmp_path)
    assert caught.value.exit_code == 1
    found = json.loads((tmp_path / "process-group.json").read_text())
    assert found["findings"] is None
    assert "no variant of process-group" in found["error"]
    assert "What does a process group of one rank take?" in (tmp_path / "process-group.html").read_text()
    cells = nbformat.read(tmp_path / "process-group.ipynb", as_version=4).cells
    errors = [output.ename for cell in cells for output in cell.get("outputs", ()) if output.output_type == "error"]
    assert errors == ["UsageError"]


@pytest.mark.parametrize(
    ("study", "settings", "reason"),
    [
        ("process-grup", [], "did you mean 'process-group'"),
        ("process-group", ["repeat=2"], "did you mean 'repeats'.*only: str = 'reference-', repeats: int = 1"),
        ("process-group", ["repeats=two"], "whole number, not 'two'.*repeats: int = 1"),
        ("process-group", ["repeats"], "no value; write name=value: only: str"),
    ],
)
def test_what_can_not_be_reported_is_refused(study: str, settings: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        report(study, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parameters_are_read_by_their_types(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("a: int = 1  # x\nb: float = 0.5\nc: bool = False\nd: str = 'x'")
    cell.metadata["tags"] = [TAG]
    path = tmp_path / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert chosen(path, ["a=3", "b=2", "c=true", "d=a=b"]) == {"a": 3, "b": 2.0, "c": True, "d": "a=b"}
    assert chosen(path, []) == {}
    with pytest.raises(UsageError, match="c is true or false, not 'yes'"):
        chosen(path, ["c=yes"])


def test_a_page_shows_what_stays_of_widgets() -> None:
    def output(data: dict[str, Any]) -> Any:
        return nbformat.v4.new_output("display_data", data)

    cell = nbformat.v4.new_code_cell("1", outputs=[output({LIVE: {}, "text/plain": "live"}), output({DATA: {}})])
    cell.outputs.append(output({"text/html": "<p>still</p>", "text/plain": "x"}))
    made = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {LIVE: {}}})
    with pytest.warns(UserWarning, match="not able to be represented"):  # an output for programs alone
        page = html_page(made, "name")
    assert "<p>still</p>" in page
    assert "live" not in page.split("<body")[1].split("<script")[0]
    assert len(made.cells[0].outputs) == 3


def test_copies_are_kept_once_they_are_changed(tmp_path: Path) -> None:
    assert copy_to(tmp_path / "here") == []
    tour = tmp_path / "here" / "tour.ipynb"
    mine = nbformat.read(tour, as_version=4)
    mine.cells[1].execution_count = 3
    nbformat.write(mine, tour)
    assert copy_to(tmp_path / "here") == []  # only executed
    mine.cells[1].source = "my own"
    nbformat.write(mine, tour)
    before = tour.read_bytes()
    assert copy_to(tmp_path / "here") == [tour]
    assert tour.read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="no notebooks can be put into"):
        copy_to(tmp_path / "file")


def test_lab_opens_the_tour(tmp_path: Path) -> None:
    done = command("workbench", "lab", str(tmp_path), "--port", "8123", "--no-browser", "--json")
    started = json.loads(done.stdout)["command"]
    assert started[1:4] == ["-m", "jupyterlab", f"--ServerApp.root_dir={tmp_path}"]
    assert "--port=8123" in started
    assert sorted(path.stem for path in tmp_path.glob("*.ipynb")) == NOTEBOOKS
