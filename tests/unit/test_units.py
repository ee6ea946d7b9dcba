"""Sizes are read as people write them, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import UsageError
from workbench.units import LARGEST, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("4096 B", 4096),
        ("64KiB", 65536),
        ("64kib", 65536),
        ("1.5GiB", 3 * 2**29),
        (" 1.5 GiB ", 3 * 2**29),
        ("4GB", 4 * 10**9),
        ("2TiB", 2**41),
        ("0.1B", 0),
        ("1.0000000001GB", 10**9),
        (str(LARGEST), LARGEST),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GiB",
        "4 GBB",
        "-1",
        "-1GiB",
        "+1",
        "nan",
        "inf",
        "1e9",
        "1,5GiB",
        "1_000",
        "0x10",
        "1.GiB",
        ".5GiB",
        "1 2",
        "٣",
        "4G",
    ],
)
def test_what_is_no_size_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_bytes(text)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("text", [str(LARGEST + 1), "8EiB", "8388608TiB", "9" * 400 + "GB"])
def test_what_no_column_can_hold_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (3 * 2**29, "1.50 GiB"),
        (2**20 - 1, "1.00 MiB"),
        (2**30 - 1, "1.00 GiB"),
        (5 * 2**40, "5.00 TiB"),
        (-(2**20), "-1.00 MiB"),
    ],
)
def test_a_size_is_written(size: int, text: str) -> None:
    assert format_bytes(size) == text


@given(st.integers(0, LARGEST - 2**56))
def test_a_written_size_reads_back_within_its_two_decimals(size: int) -> None:
    assert abs(parse_bytes(format_bytes(size)) - size) <= size * 0.0051 + 1  # a byte: what is read is rounded down
