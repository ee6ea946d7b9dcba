"""`workbench COMMAND …`: finds the command, and catches the one error type once."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from workbench.errors import UsageError, WorkbenchError, nearest
from workbench.launch.termination import exit_code, terminable

COMMANDS = {
    "doctor": "what can be recorded on this machine, and what can not",
    "generate": "answer prompts by an engine under a config, recorded",
    "record": "record any program after `--`",
    "runs": "list the recorded runs, newest first",
    "show": "where the memory of a run went",
    "compare": "what differs between runs, by owner and phase",
    "study": "run the configs that answer a question, and answer it",
    "report": "execute a study's notebook: a page and findings as JSON",
    "lab": "open JupyterLab on the tour",
    "pinned-cost": "what page-locked memory of a size takes, by the way it is had",
    "import": "make a run from a PyTorch memory snapshot",
    "export": "write a run for Perfetto, PyTorch's viewer, CSV or Parquet",
    "models": "list the models that have names, or fetch one",
    "axes": "what can be chosen, and its values",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # the next file that is opened would take its place
        return _complain(WorkbenchError("stdout is closed: leave it open, or give it /dev/null"), as_json=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a sign that it can not say costs no answer
    try:
        code = _caught(given)
        sys.stdout.flush()
        return code
    except OSError as error:
        if not _is_stdout_broken():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python, as it ends, writes the rest again
        return 1 if isinstance(error, BrokenPipeError) else _complain(_of_stdout(error), as_json=False)


def _caught(given: list[str]) -> int:
    try:
        with terminable():
            return _run(given)
    except (WorkbenchError, KeyboardInterrupt) as error:
        own = given[: given.index("--")] if "--" in given else given  # the rest is a program's
        return _complain(error, "--json" in own)


def _is_stdout_broken() -> bool:
    """Whether it takes no line more: an error does not say which file it is of."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _of_stdout(error: OSError) -> WorkbenchError:
    said = WorkbenchError(f"stdout can not be written: {error.strerror or error}")
    for note in getattr(error, "__notes__", ()):
        said.add_note(note)
    return said


def _run(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        _overview().print_help()
        return 0
    if given[0] == "--version":
        from importlib.metadata import version

        print(version("memory-workbench"))
        return 0
    name = given[0]
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}: {nearest(name, COMMANDS)}")
    command = import_module(f"workbench.cli.{name.replace('-', '_')}_command")
    parser = _Parser(prog=f"workbench {name}", description=COMMANDS[name], allow_abbrev=False)
    command.configure(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout and nothing else there")
    # Values may stand between options, but what a program is given is its own, and Python reads `--` in one way only.
    has_rest = name == "record" or "--" in given
    parse = parser.parse_args if has_rest else parser.parse_intermixed_args
    code: int = command.run(parse(given[1:]))
    return code


class _Parser(argparse.ArgumentParser):
    """argparse, with its complaints in one line."""

    def error(self, message: str) -> object:  # type: ignore[override]
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _overview() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:13}{text}" for name, text in COMMANDS.items())
    return argparse.ArgumentParser(
        prog="workbench",
        usage="workbench COMMAND …",
        description=f"Where an LLM engine's memory goes, and which configuration to run.\n\n{lines}",
        epilog="`workbench COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _complain(error: WorkbenchError | KeyboardInterrupt, as_json: bool) -> int:
    said = "; ".join((str(error) or "interrupted", *getattr(error, "__notes__", ())))
    line = " ".join(said.split())
    print(f"workbench: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": line}))
    return exit_code(error) if isinstance(error, KeyboardInterrupt) else error.exit_code
