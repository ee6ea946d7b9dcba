"""`workbench generate PROMPT …`: answers under a config, as they come out, and the run that was recorded meanwhile."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.output import print_json, say
from workbench.cli.recording_options import StdoutKeptClean, add_recording_options, recording_options, size_of
from workbench.config import EngineConfig, Workload
from workbench.errors import UsageError
from workbench.units import format_bytes

if TYPE_CHECKING:
    from workbench.engines import Token
    from workbench.run.run import Run


def configure(parser: argparse.ArgumentParser) -> None:
    """What to answer, by what, and how to record it."""
    parser.add_argument("prompt", nargs="*", help="a prompt; several are answered together")
    parser.add_argument("--prompts", metavar="FILE", help="a file with a prompt a line")
    parser.add_argument("--engine", help="which engine runs the model: reference or vllm")
    parser.add_argument("--model", help="a name that `workbench models` lists, a local folder, or a hub id")
    parser.add_argument("--config", metavar="FILE", help="a config in YAML or JSON")
    parser.add_argument("--set", action="append", default=[], metavar="AXIS.FIELD=VALUE", help="a value on an axis")
    rules = parser.add_argument_group("answers")
    rules.add_argument("--max-tokens", type=int, help="tokens of each answer, at most")
    rules.add_argument("--temperature", type=float, help="0: always the likeliest token")
    rules.add_argument("--top-k", type=int, help="only the likeliest so many tokens")
    rules.add_argument("--top-p", type=float, help="only the likeliest tokens that together have this probability")
    rules.add_argument("--seed", type=int, help="of the random numbers")
    rules.add_argument("--stop", action="append", metavar="TEXT", help="an answer ends before it; may be given again")
    add_recording_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer, and say what it took; with --json one object with texts, tokens, metrics and the run."""
    from workbench.launch.session import Session, answers_of

    workload, config = _workload(arguments), _config(arguments)
    with StdoutKeptClean(arguments.json), Session(config, **recording_options(arguments)) as session:
        tokens = session.generate(workload, stream=True)
        answers = answers_of(workload, tokens if arguments.json else _printed(workload, tokens))
    assert session.run is not None
    if arguments.json:
        print_json(_document(session.run, [vars(answer) for answer in answers]))
    else:
        _say_result(session.run)
    if session.run.manifest.error:
        print(f"workbench: {session.run.manifest.error['what']}", file=sys.stderr)
    return int(session.run.manifest.error is not None)


def _printed(workload: Workload, tokens: Iterator[Token]) -> Iterator[Token]:
    """Prints what passes: one answer as it comes out, of several each when it is complete."""
    if len(workload.prompts) == 1:
        for token in tokens:
            sys.stdout.write(token.text)
            sys.stdout.flush()
            yield token
        say()
        return
    texts = [""] * len(workload.prompts)
    for token in tokens:
        texts[token.request] += token.text
        if token.end:
            say(f"[{token.request}] {workload.prompts[token.request]}{texts[token.request]}\n")
        yield token


def _config(arguments: argparse.Namespace) -> EngineConfig:
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


def _workload(arguments: argparse.Namespace) -> Workload:
    prompts = (*arguments.prompt, *_lines(arguments.prompts))
    if not prompts:
        raise UsageError("there is nothing to answer: give a prompt, or --prompts FILE")
    names = ("max_tokens", "temperature", "top_k", "top_p", "seed", "stop")
    chosen = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    return Workload.from_dict({"prompts": prompts, **chosen})


def _lines(path: str | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line for line in Path(path).read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompts {path} can not be read: {error}") from None


def _document(run: Run, answers: list[dict[str, Any]]) -> dict[str, Any]:
    from workbench.run.metrics import per_request, summary

    requests = per_request(run)
    for answer, metrics in zip(answers, requests.to_dict("records"), strict=True):
        answer["metrics"] = metrics
    return {"answers": answers, "metrics": summary(run), "run": run.id, "folder": str(run.folder)}


def _say_result(run: Run) -> None:
    from workbench.run.metrics import summary

    metrics = summary(run)
    peaks = ", ".join(f"{tier} {format_bytes(size)}" for tier, size in metrics["peak_bytes"].items())
    say(
        f"{metrics['tokens']} tokens, {metrics['tokens_per_s']:.1f} a second, "
        f"the first after {metrics['first_token_s']:.3f} s; peak: {peaks}"
    )
    say(f"recorded in {run.folder} ({size_of(run)}): workbench show {run.id}")
