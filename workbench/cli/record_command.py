"""`workbench record`: a generation by an engine, or any program after `--`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.output import print_line, say
from workbench.config import EngineConfig, Workload
from workbench.errors import UsageError
from workbench.record.settings import BLOCKS, STACKS, Settings
from workbench.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from workbench.run.run import Run


def configure(parser: argparse.ArgumentParser) -> None:
    """What to run, and how to record it."""
    parser.add_argument("--engine", default=None, help="which engine runs the model")
    parser.add_argument("--model", default=None, help="a known name (`smollm2`) or a local folder")
    parser.add_argument("--prompt", action="append", default=[], help="a prompt; may be given several times")
    parser.add_argument("--prompts", metavar="FILE", help="a file with a prompt a line")
    parser.add_argument("--max-tokens", type=int, default=None, help="tokens of each answer, at most")
    parser.add_argument("--set", action="append", default=[], metavar="AXIS.FIELD=VALUE", help="a value on an axis")
    parser.add_argument("--config", metavar="FILE", help="a config in YAML or JSON")
    parser.add_argument("--name", help="what the run is called; by default what it runs")
    parser.add_argument("--out", metavar="FOLDER", help="the folder of runs to write into")
    parser.add_argument("--threshold", default="64KiB", help="host requests below it are not recorded one by one")
    parser.add_argument(
        "--stacks", default="large", choices=STACKS, help="of which allocations the Python stack is kept"
    )
    parser.add_argument(
        "--blocks", default="large", choices=BLOCKS, help="torch's CPU blocks: from the threshold on, or all"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="SOURCE", help="leave out host, driver or torch"
    )
    parser.add_argument(
        "--copies", action="store_true", help="also when copies ran on the device, by CUPTI, which slows CUDA graphs"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and a program with its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Record, and end with one JSON object that names the run."""
    from workbench.run.store import Store

    settings = Settings(
        parse_bytes(arguments.threshold),
        arguments.stacks,
        arguments.blocks,
        tuple(arguments.without),
        arguments.copies,
    )
    known = {"name": arguments.name, "store": Store(arguments.out) if arguments.out else None, "settings": settings}
    with _stdout_kept_clean(arguments.json):
        finished = _record(arguments, known)
    if not arguments.json:
        _say_result(finished)
    manifest = finished.manifest
    print_line(
        {"run": finished.id, "status": manifest.status, "folder": str(finished.folder), "exit_code": manifest.exit_code}
    )
    if manifest.error:
        print(f"workbench: {manifest.error['what']}", file=sys.stderr)
    return manifest.exit_code or int(manifest.error is not None)


def _record(arguments: argparse.Namespace, known: dict[str, Any]) -> Run:
    from workbench.launch.session import record, record_program

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if command:
        _refuse_both(arguments)
        return record_program(command, **known)
    return record(_config(arguments), _workload(arguments), **known)


def _refuse_both(arguments: argparse.Namespace) -> None:
    for name in ("engine", "model", "prompt", "prompts", "max_tokens", "set", "config"):
        if getattr(arguments, name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is for a generation; a program after `--` takes its own arguments")


def _config(arguments: argparse.Namespace) -> EngineConfig:
    config = EngineConfig.read(Path(arguments.config)) if arguments.config else EngineConfig()
    if arguments.engine:
        config = config.with_setting("engine", arguments.engine)
    if arguments.model:
        config = config.with_setting("model", arguments.model)
    for setting in arguments.set:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r} has no value; write axis.field=value")
        config = config.with_setting(name, value)
    return config


def _workload(arguments: argparse.Namespace) -> Workload:
    prompts = [*arguments.prompt, *_lines(arguments.prompts)]
    if not prompts:
        raise UsageError("there is nothing to generate: give --prompt or --prompts, or a program after `--`")
    chosen = {} if arguments.max_tokens is None else {"max_tokens": arguments.max_tokens}
    return Workload(prompts=tuple(prompts), **chosen)


def _lines(path: str | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line for line in Path(path).read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompts {path} can not be read: {error}") from None


class _stdout_kept_clean:
    """While the block runs, what it and its children print on stdout goes to stderr, where `needed` says so."""

    def __init__(self, needed: bool) -> None:
        self._needed = needed

    def __enter__(self) -> None:
        if self._needed:
            sys.stdout.flush()
            self._stdout = os.dup(1)
            os.dup2(2, 1)

    def __exit__(self, *_: object) -> None:
        if self._needed:
            os.dup2(self._stdout, 1)
            os.close(self._stdout)


def _say_result(finished: Run) -> None:
    for text in finished.manifest.notes.get("outputs", []):
        say(text)
    size = sum(path.stat().st_size for path in finished.folder.iterdir())
    events = finished.manifest.counts.get("events", 0)
    say(f"recorded {events} events in {finished.folder} ({format_bytes(size)})")
