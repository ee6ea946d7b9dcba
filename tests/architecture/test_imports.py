"""What is imported when: reading, configuring and asking for help must cost nothing of what running an engine costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workbench.launch.programs import record_program
from workbench.run.store import Store

HEAVY = {
    "IPython",
    "anywidget",
    "duckdb",
    "matplotlib",
    "numpy",
    "pandas",
    "pyarrow",
    "rich",
    "torch",
    "transformers",
    "vllm",
}
SAY = f"import sys\nprint(*(sys.modules.keys() & {HEAVY!r}))"


def loaded_by(statement: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after a statement."""
    program = f"{statement}\n{SAY}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing() -> None:
    assert loaded_by("import workbench") == set()


@pytest.mark.parametrize(
    "package",
    ["config", "config.models", "errors", "units", "engines", "recorder.probe", "recorder.recorder", "kernels"],
)
def test_what_the_command_line_needs_first_loads_nothing(package: str) -> None:
    assert loaded_by(f"import workbench.{package}") == set()


def test_a_run_is_read_without_an_engine() -> None:
    assert loaded_by("import workbench.run.store") <= {"numpy", "pandas", "pyarrow"}


@pytest.mark.parametrize("command", ["axes", "record", "show"])
def test_the_options_of_a_command_are_known_without_loading_anything(command: str) -> None:
    ask = f"import argparse\nfrom workbench.cli import {command}_command as it\nit.configure(argparse.ArgumentParser())"
    assert loaded_by(ask) == set()


def test_a_recorded_program_loads_nothing_more(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What it loads costs it time and memory that would be taken for its own."""
    program = f"{SAY}\nprint('workbench.recorder.recorder' in sys.modules)"
    record_program([sys.executable, "-c", program], store=Store(tmp_path))
    assert capfd.readouterr().out.split() == ["True"]


def test_a_heavy_package_would_be_seen() -> None:
    assert loaded_by("import pyarrow") == {"numpy", "pyarrow"}
