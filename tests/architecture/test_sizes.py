"""Files have one subject and functions one step: neither grows past what a reader keeps in mind."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60

SOURCES = sorted(
    path
    for folder in ("workbench", "kernels", "tests")
    for pattern in ("*.py", "*.c", "*.h", "*.js")
    for path in (ROOT / folder).rglob(pattern)
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES_OF_A_FILE
    if path.suffix == ".py":
        assert not long_functions(text)


def long_functions(text: str) -> dict[str, int]:
    """Functions of more lines than allowed, with their lines."""
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    lines = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    return {name: count for name, count in lines.items() if count > MOST_LINES_OF_A_FUNCTION}


def test_a_long_function_would_be_seen() -> None:
    body = "    pass\n"
    assert long_functions("def short():\n" + body * 59) == {}
    assert long_functions("class A:\n  def long(self):\n" + body * 60) == {"long": 61}
