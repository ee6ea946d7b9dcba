"""Runs programs under the native recorder and reads what they recorded, without a scribe."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from workbench.kernels import library_path

from workbench.recorder import native
from workbench.recorder.rings import Ring, rings

PROGRAMS = Path(__file__).parent / "native_programs"
THRESHOLD = 65536


class Event(NamedTuple):
    kind: str
    layer: int
    address: int
    bytes: int
    asked: int
    owner: str
    tag: str
    flags: int
    thread: int
    stack: tuple[str, ...]  # "file\0function\0line", innermost first


@dataclass
class Process:
    pid: int
    parent: int
    lost: int
    events: list[Event]

    def of(self, owner: str) -> list[Event]:
        """The allocations of an owner and the frees of what they took, in their order."""
        mine, found = set(), []
        for event in self.events:
            key = (event.layer, event.address)
            if event.kind == "alloc":
                mine.add(key) if event.owner == owner else mine.discard(key)
            if key in mine:
                found.append(event)
        return found


def read(spool: Path) -> list[Process]:
    """What every process has left in a spool, in the order of their first events."""
    return [_process(path) for path in rings(spool)]


def _process(path: Path) -> Process:
    ring = Ring(path)
    definitions = native.Names(path.with_suffix(".names")).read_new()
    names = {each.id: each.text for each in definitions if each.kind == native.NAME} | {0: ""}
    frames = {each.id: each.text for each in definitions if each.kind == native.FRAME}
    stacks = {each.id: tuple(frames[i] for i in each.numbers) for each in definitions if each.kind == native.STACK}
    rows = ring.drain(1 << 16)
    events = [
        Event(
            "alloc" if row["kind"] == native.ALLOC else "free",
            int(row["layer"]),
            int(row["address"]),
            int(row["bytes"]),
            int(row["asked"]),
            names[int(row["owner"])],
            names[int(row["tag"])],
            int(row["flags"]),
            int(row["thread"]),
            stacks.get(int(row["stack"]), ()),
        )
        for row in rows
    ]
    return Process(ring.pid, ring.parent, ring.lost, events)


def built(program: str, folder: Path, *flags: str) -> Path:
    """A C program of `native_programs`, compiled."""
    made = folder / program
    source = PROGRAMS / f"{program}.c"
    subprocess.run(["gcc", *flags, "-O1", "-fno-builtin", "-w", "-o", made, source, "-lpthread", "-ldl"], check=True)
    return made


def environment(spool: Path, preload: str = "", **more: str) -> dict[str, str]:
    spool.mkdir(exist_ok=True)
    preload = f"{library_path()} {preload}".strip()
    return {**os.environ, "WORKBENCH_SPOOL": str(spool), "LD_PRELOAD": preload, "PYTHONHASHSEED": "0", **more}


def run(command: list[str | Path], spool: Path, preload: str = "", **more: str) -> str:
    """Run a program under the recorder; returns what it printed. It must succeed."""
    done = subprocess.run(command, env=environment(spool, preload, **more), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def run_python(script: str, spool: Path, preload: str = "", **more: str) -> str:
    """Run a script of Python under the recorder, from a file, so that its lines can be told."""
    file = spool.with_suffix(".py")
    file.write_text(script)
    return run([sys.executable, file], spool, preload, **more)
