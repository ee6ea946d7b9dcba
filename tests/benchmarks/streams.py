"""What many transfers in flight cost, on a CUDA host: python tests/benchmarks/streams.py [MOST_IN_FLIGHT]

p99     of a submit call, the worst over 1 to MOST_IN_FLIGHT (100,000) transfers of 4 KiB in flight: goal, under 10 us
cliff   the first call that waits for room in the queue
memory  what so many take of the host's: goal, at most 1 GiB
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

IN_FLIGHT = (1, 10, 100, 1_000, 10_000, 100_000)
SIZE = 4096
MIB = 1 << 20
US = 1e6


def measured(value: str, in_flight: int) -> dict[str, Any]:
    """What the study's program finds."""
    command = [sys.executable, "-m", "workbench.studies.kv_streams_program", value, str(in_flight), str(SIZE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(value: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """One value's three numbers, and what they are made of."""
    blocked = [one["first_blocked"] for one in found if one["first_blocked"]]
    return {
        "value": value,
        "p99_us": round(max(one["p99_s"] for one in found) * US, 2),
        "p99_us_by_in_flight": {one["in_flight"]: round(one["p99_s"] * US, 2) for one in found},
        "max_us": round(max(one["max_s"] for one in found) * US, 1),
        "cliff": min(blocked, default=None),
        "memory_mib": max(one["private_bytes"] + one["pinned_bytes"] for one in found) // MIB,
        "delay_ms": {one["in_flight"]: round(one["delay_s"] * 1000, 1) for one in found},
        "corrupted": sum(one["corrupted"] for one in found),
    }


def main(most: int) -> None:
    """A line for each value."""
    for value in ("single", "per-transfer", "bounded"):
        found = [measured(value, in_flight) for in_flight in IN_FLIGHT if in_flight <= most]
        print(json.dumps(line(value, found)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else IN_FLIGHT[-1])
