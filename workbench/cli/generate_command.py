"""`workbench generate PROMPT …`: answers under a config, as they come out, and the run that was recorded meanwhile."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from workbench.cli.engine_options import add_engine_options, config_of, workload_of
from workbench.cli.output import print_json, say
from workbench.cli.recording_options import StdoutKeptClean, add_recording_options, recording_options, size_of
from workbench.config import Workload
from workbench.units import format_bytes

if TYPE_CHECKING:
    from workbench.engines import Token
    from workbench.run.run import Run


def configure(parser: argparse.ArgumentParser) -> None:
    """What to answer, by what, and how to record it."""
    parser.add_argument("prompt", nargs="*", help="a prompt; several are answered together")
    add_engine_options(parser)
    add_recording_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer, and say what it took; with --json one object with texts, tokens, metrics and the run."""
    from workbench.launch.session import Session, answers_of, refuse_stops

    workload, config = workload_of(arguments), config_of(arguments)
    refuse_stops(config, workload)
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
