"""`workbench show RUN`: where the memory of a run went."""

from __future__ import annotations

import argparse
import json
from typing import Any

from workbench.cli.arguments import filled
from workbench.cli.output import print_json, print_table, say
from workbench.errors import UsageError
from workbench.units import SECOND, format_bytes

MOST_ROWS = 15
MOST_WORKLOADS = 5
LONGEST = 40  # letters of a prompt
BAR = 24


def configure(parser: argparse.ArgumentParser) -> None:
    """Which run, and of which moment the ledger is."""
    parser.add_argument("run", nargs="?", default="latest", help="id, its beginning or ending, a path, or `latest`")
    parser.add_argument("--at", metavar="SECONDS", help="the moment of the ledger; by default the fullest phase edge")
    parser.add_argument(
        "--store", type=filled, metavar="FOLDER", help="a folder of runs; by default $WORKBENCH_HOME/runs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest, phases, peaks and ledgers of one run."""
    from workbench.compare.evidence import evidence
    from workbench.run.store import Store
    from workbench.run.summary import summary

    opened = Store(arguments.store).open(arguments.run)
    moment = _moment(arguments.at, opened.manifest.duration_s)
    document = summary(opened, moment) | {"evidence": [vars(one) for one in evidence(opened)]}
    if arguments.json:
        print_json(document)
        return 0
    _print_head(document["manifest"])
    _print_workloads(opened.workloads)
    for one in document["evidence"]:
        say(f"{one['setting']}: {one['verdict']}: {one['why']}")
    tiers = list(document["peak"])
    if document["phases"]:
        _print_phases(document["phases"], tiers)
    for tier in tiers:
        _print_ledger(tier, document["ledger"][tier], document["peak"][tier])
    return 0


def _moment(text: str | None, duration_s: float | None) -> int | None:
    if text is None:
        return None
    try:
        moment = int(float(text.removesuffix("s")) * SECOND)
    except (ValueError, OverflowError):
        raise UsageError(f"--at {text!r} is no moment; give seconds since the run's start, such as 12.5") from None
    if moment < 0 or (duration_s is not None and moment > duration_s * SECOND):
        lasted = "" if duration_s is None else f", which took {duration_s:.3f} s"
        raise UsageError(f"--at {text} is outside of the run{lasted}")
    return moment


def _print_head(manifest: dict[str, Any]) -> None:
    gpus = ", ".join(gpu["name"] for gpu in manifest["gpus"]) or "no GPU"
    seconds = "" if manifest["duration_s"] is None else f" after {manifest['duration_s']:.1f} s"
    say(f"{manifest['id']}  {manifest['status']}{seconds}  {manifest['host'].get('cpu', '')}  {gpus}")
    if manifest["error"]:
        say(f"error: {manifest['error']['what']}")
        for tier, owners in manifest["error"].get("alive", {}).items():
            _say_owners(f"  {tier} in use then: ", owners)
    for shortage in manifest["shortages"]:
        say(f"out of {shortage['tier']} memory in phase {shortage.get('phase', 'none')}: {shortage['what']}")
        _say_owners("  in use then: ", shortage["alive"].get(shortage["tier"], {}))
    if manifest["lost"]:
        say(f"{manifest['lost']} events were lost: the sums below are too low or too high by theirs")
    for source, limits in manifest["sources"].items():
        for limit in limits:
            say(f"{source}: {limit}")


def _print_workloads(workloads: list[dict[str, Any]]) -> None:
    for one in workloads[:MOST_WORKLOADS]:
        rules = [f"{name} {json.dumps(one[name])}" for name in one if name != "prompts" and one[name] not in (None, [])]
        say(f"asked: {'; '.join([_told(one['prompts']), *rules])}")
    if len(workloads) > MOST_WORKLOADS:
        say(f"asked: {len(workloads) - MOST_WORKLOADS} more")


def _told(prompts: list[str]) -> str:
    first = next(iter(prompts), "")
    text = repr(first if len(first) <= LONGEST else f"{first[:LONGEST]}…")
    return f"{text} and {len(prompts) - 1} more" if len(prompts) > 1 else text


def _say_owners(beginning: str, owners: dict[str, int]) -> None:
    say(beginning + ", ".join(f"{owner} {format_bytes(size)}" for owner, size in list(owners.items())[:5]))


def _print_phases(phases: list[dict[str, Any]], tiers: list[str]) -> None:
    rows = []
    for phase in phases:
        seconds = "open" if phase["end_s"] is None else f"{phase['end_s'] - phase['start_s']:.3f}"
        sizes = [format_bytes(phase[kind][tier]) for tier in tiers for kind in ("peak_bytes", "end_bytes")]
        rows.append(["  " * phase["depth"] + phase["name"], f"{phase['start_s']:.3f}", seconds, *sizes])
    columns = [f"{tier} {what}>" for tier in tiers for what in ("peak", "end")]
    say()
    print_table(["phase", "from s>", "for s>", *columns], rows)


def _print_ledger(tier: str, ledger: dict[str, Any], peak: dict[str, Any]) -> None:
    say()
    used = ledger["used"]
    whole = used if used is not None else ledger["explained"]
    say(f"{tier}: handed out at most {format_bytes(peak['bytes'])}, at {peak['time_s']:.3f} s")
    entries = [(entry["owner"], entry["tag"] or "", entry["bytes"]) for entry in ledger["entries"]]
    shown, rest = entries[:MOST_ROWS], entries[MOST_ROWS:]
    if rest:
        shown.append((f"{len(rest)} more", "", sum(size for _, _, size in rest)))
    if ledger["unexplained"] is not None:
        shown.append(("unexplained", "", ledger["unexplained"]))
    rows = [[owner, tag, format_bytes(size), _share(size, whole), _bar(size, whole)] for owner, tag, size in shown]
    truth = f"used {format_bytes(used)}" if used is not None else "used: nobody can tell here"
    print_table(["owner", "tag", "bytes>", "share>", ""], rows, f"{tier} at {ledger['time_s']:.3f} s: {truth}")


def _share(size: int, whole: int) -> str:
    return f"{100 * size / whole:.1f} %" if whole else ""


def _bar(size: int, whole: int) -> str:
    return "█" * round(BAR * max(size, 0) / whole) if whole else ""
