"""Sizes as people write them, and back; and the unit of time."""

from __future__ import annotations

import re
from decimal import Decimal

from workbench.errors import UsageError, short

LARGEST = 2**63 - 1  # what a column of a run can hold
SECOND = 10**9  # nanoseconds

_FACTORS = {
    "": 1,
    "b": 1,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Gives the bytes that a size such as `64KiB`, `1.5 GiB`, `4GB` or `512` stands for, rounded down."""
    match = _SIZE.fullmatch(text.strip())
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        how = "write a number and B, KiB, MiB, GiB, KB, MB or GB, such as 1.5GiB"
        raise UsageError(f"{short(text)} is not a size: {how}")
    number = Decimal(match[1])
    if number >= Decimal(LARGEST + 1) / factor:
        raise UsageError(f"{short(text)} is too large a size: the largest is {LARGEST} bytes")
    return int(number * factor)


def number_of(digits: str) -> int:
    """Gives the number that digits stand for, however many: Python's own `int` refuses thousands of them."""
    return int(Decimal(digits))


def format_bytes(size: int) -> str:
    """Gives a size in the largest binary unit it fills, such as `1.50 GiB`; exact below 1 KiB."""
    if abs(size) < 2**10:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 2**10
        if abs(value) < 1023.995:  # what would round to 1024.00 goes to the next unit
            return f"{value:.2f} {unit}"
    return f"{value / 2**10:.2f} TiB"


def exact_bytes(size: int) -> str:
    """Gives a size in the largest binary unit that it is a whole number of, such as `1536 MiB`: nothing is rounded."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _FACTORS[unit.lower()] == 0:
            return f"{size // _FACTORS[unit.lower()]} {unit}"
    return f"{size} B"


def shown(value: object) -> str:
    """Gives a setting as people would write it: a size in the largest unit that it is whole in."""
    text = str(value)
    return exact_bytes(parse_bytes(text)) if re.fullmatch(r"\d+ B", text) else text
