"""What every command that runs an engine can be told about it and its workload."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.cli.arguments import filled
from workbench.config import EngineConfig, Workload
from workbench.errors import UsageError

RULES = ("max_tokens", "temperature", "top_k", "top_p", "seed", "stop")  # of a workload


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options, but for the prompts themselves: `prompt`."""
    parser.add_argument("--prompts", type=filled, metavar="FILE", help="a file with a prompt a line")
    parser.add_argument("--engine", type=filled, help="which engine runs the model: reference or vllm")
    parser.add_argument(
        "--model", type=filled, help="a name that `workbench models` lists, a local folder, or a hub id"
    )
    parser.add_argument("--config", type=filled, metavar="FILE", help="a config in YAML or JSON")
    parser.add_argument("--set", action="append", default=[], metavar="AXIS.FIELD=VALUE", help="a value on an axis")
    rules = parser.add_argument_group("answers")
    rules.add_argument("--max-tokens", type=int, help="tokens of each answer, at most")
    rules.add_argument("--temperature", type=float, help="0: always the likeliest token; vLLM takes up to 2")
    rules.add_argument("--top-k", type=int, help="only the likeliest so many tokens")
    rules.add_argument("--top-p", type=float, help="only the likeliest tokens that together have this probability")
    rules.add_argument("--seed", type=int, help="of the random numbers")
    rules.add_argument("--stop", action="append", metavar="TEXT", help="an answer ends before it; may be given again")


def config_of(arguments: argparse.Namespace) -> EngineConfig:
    """Gives the config that was asked for."""
    config = EngineConfig.read(Path(arguments.config)) if arguments.config else EngineConfig()
    for name in ("engine", "model"):
        if value := getattr(arguments, name):
            config = config.with_setting(name, value)
    for setting in arguments.set:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r} has no value; write axis.field=value")
        config = config.with_setting(name, value)
    return config


def workload_of(arguments: argparse.Namespace) -> Workload:
    """Gives what is to be answered, and by which rules."""
    prompts = (*arguments.prompt, *_lines(arguments.prompts))
    if not prompts:
        raise UsageError("there is nothing to answer: give a prompt, or --prompts FILE")
    chosen = {name: value for name in RULES if (value := getattr(arguments, name)) is not None}
    return Workload.from_dict({"prompts": prompts, **chosen})


def _lines(path: str | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")  # no other sign ends a line of a prompt
        return [line.removesuffix("\r") for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompts {path} can not be read: {error}") from None
