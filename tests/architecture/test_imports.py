"""What is imported when: reading, configuring and asking for help must cost nothing of what running an engine costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"IPython", "duckdb", "pandas", "pyarrow", "torch", "transformers", "vllm"}


def loaded_by(statement: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint(*(sys.modules.keys() & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing() -> None:
    assert loaded_by("import workbench") == set()


@pytest.mark.parametrize(
    "package", ["config", "config.models", "errors", "units", "engines", "record.probe", "kernels"]
)
def test_what_the_command_line_needs_first_loads_nothing(package: str) -> None:
    assert loaded_by(f"import workbench.{package}") == set()


def test_a_run_is_read_without_an_engine() -> None:
    assert loaded_by("import workbench.run") <= {"pyarrow", "pandas", "duckdb"}


def test_a_heavy_package_would_be_seen() -> None:
    assert loaded_by("import pyarrow") == {"pyarrow"}
