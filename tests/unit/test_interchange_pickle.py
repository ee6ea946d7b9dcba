"""A pickle from a stranger gives plain data or one clear line, and nothing else happens."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import WorkbenchError
from workbench.run.interchange.safe_pickle import load_plain

PROTO = b"\x80\x04"


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps({}))
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_comes_out_as_it_went_in(protocol: int) -> None:
    shared = [{"line": 3, "name": "é" * 300}]
    content = {
        "ints": [0, 255, 256, 65536, -1, 1 << 31, -(1 << 40), (1 << 64) - 1],
        "others": [None, True, False, 1.5, (0, 7), {}, [], "", "x" * 16, "y" * 17, "z" * 70_000],
        "shared": [shared] * 300,
        "many": [{"size": n, "frames": shared} for n in range(70_000)],
    }
    loaded = load_plain(pickle.dumps(content, protocol=protocol), "x")
    assert loaded == content
    assert isinstance(loaded, dict)
    assert loaded["shared"][0] is loaded["shared"][299]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_is_never_run(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps({"segments": [], "device_traces": [[Canary(canary)]]}, protocol=protocol)
    with pytest.raises(WorkbenchError, match=r"asks for '(posix|nt)\.system': refused"):
        load_plain(data, "evil.pickle")
    assert not canary.exists()
    pickle.loads(data)
    assert canary.exists(), "the canary itself must be able to sing"


@pytest.mark.parametrize(
    "thing", [OrderedDict(a=1), {1}, b"raw", 1j, range(3), (1, 2, 3), (1,), ((1, 2), 3), ("a", "b"), 1 << 80]
)
def test_what_no_snapshot_holds_is_refused(thing: object) -> None:
    with pytest.raises(WorkbenchError, match="refused"):
        load_plain(pickle.dumps([thing], protocol=4), "x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\x80", "not a pickle of protocol"),
        (b"hello, world", "not a pickle of protocol"),
        (pickle.dumps({"segments": []}, protocol=0), "not a pickle of protocol"),
        (PROTO, "cut off"),
        (pickle.dumps({"a": list(range(1000))})[:-7], "cut off"),
        (pickle.dumps({"a": "b" * 1000})[:-40], "cut off"),
        (gzip.compress(pickle.dumps({})), "gzip file: unpack"),
        (zipped(), "zip file"),
        (PROTO + b"X\xff\xff\xff\xff" + b"a.", "cut off"),
        (PROTO + b"\x8d" + struct.pack("<Q", 1 << 62) + b"a.", "cut off"),  # BINUNICODE8 of 4 EiB
        (PROTO + b"\x8e" + struct.pack("<Q", 1 << 62) + b"a.", "BINBYTES8"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.", "BYTEARRAY8"),
        (PROTO + b"\x95" + struct.pack("<Q", 1 << 62) + b"N.", "FRAME"),  # of 4 EiB
        (PROTO + b"\x95" + struct.pack("<Q", 1 << 36) + b"N.", "FRAME"),
        (PROTO + b"\x8b" + struct.pack("<I", 1 << 30) + b"1.", "LONG4"),
        (PROTO + b"]r\xff\xff\xff\x7f.", "LONG_BINPUT"),  # memo slot two billion: 32 GiB
        (PROTO + b"]r\x00\x00\x01\x00.", "LONG_BINPUT"),
        (PROTO + b"]r\x00.\xff\x7f.", "LONG_BINPUT"),  # what of it could be one ends where an end could be
        (PROTO + b"\x95\x00." + b"\x00" * 4 + b"\x10\x00N.", "FRAME"),
        (PROTO + b"]P0\n.", "PERSID"),
        (PROTO + b"K\x01Q.", "BINPERSID"),
        (PROTO + b"(i" + b"os\nsystem\n.", "INST"),
        (PROTO + b"]}b.", "BUILD"),
        (PROTO + b"\x82\x01.", "EXT1"),
        (PROTO + b"]" + b"2" * 10 + b".", "DUP"),
        (PROTO + b"e.", "not a readable pickle"),
        (PROTO + b"h\x07.", "not a readable pickle"),
        (PROTO + b"}(]K\x01u.", "not a readable pickle"),  # a list as a key
        (PROTO + b"\x8c\x02\xff\xfe.", "not a readable pickle"),
    ],
)
def test_broken_and_hostile_files_are_one_line(data: bytes, message: str) -> None:
    tracemalloc.start()
    begun = time.monotonic()
    with pytest.raises(WorkbenchError, match=message) as caught:
        load_plain(data, "x.pickle")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("x.pickle")
    assert peak < 8 << 20
    assert time.monotonic() - begun < 1


def test_tuples_too_deep_to_hash_are_refused() -> None:
    deep = PROTO + b"}(" + b")" + b"\x85" * 1_000_000 + b"Nu."
    with pytest.raises(WorkbenchError, match="EMPTY_TUPLE"):
        load_plain(deep, "x")


def test_lists_nested_a_million_deep_do_no_harm() -> None:
    deep = PROTO + b"]" * 1_000_000 + b"a" * 999_999 + b"."
    assert isinstance(load_plain(deep, "x"), list)


def test_a_global_is_refused_by_name_however_it_is_written() -> None:
    for data in (PROTO + b"cos\nsystem\n.", PROTO + b"\x8c\x02os\x8c\x06system\x93."):
        with pytest.raises(WorkbenchError, match=r"'os\.system'"):
            load_plain(data, "x")
