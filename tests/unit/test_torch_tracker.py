"""The tracker is made inside of a program's `import torch`: whatever fails there, the program goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.recorder.sources import Unavailable, torch_tracker
from workbench.recorder.sources.torch_tracker import TorchTracker

TORCH = SimpleNamespace(__version__="2.99", __file__="/nowhere/torch/__init__.py")


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that writes down its environment, and makes what is no library."""
    script = tmp_path / "compiler"
    script.write_text(
        f'#!/bin/sh\nenv > {tmp_path}/environment\nwhile [ "$1" != -o ]; do shift; done\necho broken > "$2"\n'
    )
    script.chmod(0o700)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return script


def test_a_cache_that_can_not_be_made_is_said(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(compiler))  # a file
    with pytest.raises(Unavailable, match=r"Not a directory.*set XDG_CACHE_HOME to a folder"):
        TorchTracker(TORCH)


def test_a_user_who_has_no_home_is_told(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", dict[int, object]().__getitem__)  # as with `docker run --user 12345`
    with pytest.raises(Unavailable, match=r"set XDG_CACHE_HOME to a folder"):
        TorchTracker(TORCH)


def test_a_library_that_can_not_be_loaded_is_said(compiler: Path) -> None:
    with pytest.raises(Unavailable, match=r"streams of torch's GPU blocks: .*torch_tracker-\w+\.so"):
        TorchTracker(TORCH)


def test_a_compiler_that_does_not_end_is_not_waited_for(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.write_text("#!/bin/sh\nexec sleep 20\n")
    monkeypatch.setattr(torch_tracker, "COMPILE_WITHIN_S", 0.2)
    with pytest.raises(Unavailable, match=r"took more than 0.2 s"):
        TorchTracker(TORCH)


def test_the_compiler_is_no_part_of_the_recorded_program(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_SPOOL", "/nowhere")
    with pytest.raises(Unavailable):
        TorchTracker(TORCH)
    environment = (compiler.parent / "environment").read_text()
    assert "CXX=" in environment
    assert "WORKBENCH_" not in environment
