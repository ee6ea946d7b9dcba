"""Programs that call the CUDA driver of the tests (tests/unit/cuda/driver.c), and what is recorded of them."""

from __future__ import annotations

from typing import Any

from workbench.recorder import native

MIB = 1 << 20

BEGIN = """
import ctypes, sys
runtime, asker = ctypes.CDLL("libcudart.so.99"), ctypes.CDLL("libasker.so")
cuda = ctypes.CDLL("libcuda.so.1")  # as a library that looks its functions up by name
ask, give_back = asker.ask, asker.give_back
ask.restype, ask.argtypes, give_back.argtypes = ctypes.c_uint64, [ctypes.c_size_t], [ctypes.c_uint64]
MIB, word, byref, none = 1 << 20, ctypes.c_uint64, ctypes.byref, ctypes.c_void_p()
"""


VIRTUAL = """
runtime.rt_start()
handle, again, size, stream = word(), word(), ctypes.c_size_t(6 * MIB), ctypes.c_void_p()
device = (ctypes.c_int * 4)(1, 0, 1, 0)
cuda.cuMemCreate(byref(handle), size, device, word(0))
"""

# Runs a program, then tells what its ring holds: the process that is recorded need not know the workbench.
READ = """
import json, subprocess, sys, os
from pathlib import Path
done = subprocess.run([sys.executable, "-c", sys.argv[2]])
os.environ.pop("LD_PRELOAD", None)
if done.returncode: sys.exit(done.returncode)
import numpy as np
from workbench.recorder import native, rings
found = []
for path in Path(sys.argv[1]).glob("*.ring"):
    known = {e.id: e.text for e in native.Names(path.with_suffix(".names")).read_new() if e.kind == native.NAME}
    for row in rings.Ring(path).drain(1 << 16):
        if row["layer"] == native.DRIVER:
            found.append({n: int(row[n]) for n in row.dtype.names if n != "unused"} |
                         {"owner": known.get(int(row["owner"]), ""), "tag": known.get(int(row["tag"]), "")})
print(json.dumps(found))
"""


def told(records: list[dict[str, Any]], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(record[field] for field in fields) for record in records]


def allocations(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] in (native.ALLOC, native.FREE, native.REFUSED)]


def readings(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] == native.MEASURE]
