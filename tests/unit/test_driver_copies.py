"""Copies of rows, of boxes and between devices, by a driver of the tests' own (tests/unit/cuda/driver.c)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.driven import told
from workbench.recorder import native

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, HOST_TO_HOST, PEER = 1, 2, 3, 4, 5

SHAPES = """
runtime.rt_start()
size, stream, device, host = ctypes.c_size_t, ctypes.c_void_p(0x5550), ask(MIB), 0x1000
HOST, DEVICE, ARRAY, UNIFIED = 1, 2, 3, 4

def shape(side, extent):
    fields = [(end + name, ctypes.c_int if name == "type" else size) for end in ("from_", "to_") for name in side]
    return type("Shape", (ctypes.Structure,), {"_fields_": [*fields, *((name, size) for name in extent)]})

Rows = shape(("x", "y", "type", "host", "device", "array", "pitch"), ("width", "height"))  # CUDA_MEMCPY2D
Box = shape(("x", "y", "z", "level", "type", "host", "device", "array", "context", "pitch", "tall"),
            ("width", "height", "depth"))  # CUDA_MEMCPY3D
rows, box = dict(width=8, height=5), dict(width=8, height=5, depth=3)
"""


def copies(found: list[dict[str, Any]], *fields: str) -> list[tuple[Any, ...]]:
    return told([record for record in found if record["kind"] == native.COPY], *fields)


@pytest.mark.parametrize(
    ("call", "of", "size"),
    [
        ("cuMemcpy2D_v2", "Rows, rows", 40),
        ("cuMemcpy2DUnaligned_v2", "Rows, rows", 40),
        ("cuMemcpy2DAsync_v2", "Rows, rows", 40),
        ("cuMemcpy3D_v2", "Box, box", 120),
        ("cuMemcpy3DAsync_v2", "Box, box", 120),
    ],
)
def test_what_has_a_shape_is_told_by_where_its_ends_lie(recorded: Any, call: str, of: str, size: int) -> None:
    on = 0x5550 if "Async" in call else 0
    found = recorded(
        SHAPES
        + f"""
Shape, extent = {of}
for ends in (dict(from_type=HOST, to_type=DEVICE), dict(from_type=ARRAY, to_type=HOST),
             dict(from_type=UNIFIED, from_device=device, to_type=HOST),
             dict(from_type=HOST, to_type=UNIFIED, to_device=device),
             dict(from_type=UNIFIED, from_device=host, to_type=UNIFIED, to_device=host),
             dict(from_type=DEVICE, to_type=ARRAY)):
    assert cuda.{call}(byref(Shape(**ends, **extent)), *[stream][:{on}]) == 0
"""
    )
    directions = (HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_HOST, HOST_TO_DEVICE, HOST_TO_HOST, DEVICE_TO_DEVICE)
    assert copies(found, "flags", "bytes", "stream") == [(each, size, on) for each in directions]


def test_what_goes_between_contexts_is_between_peers(recorded: Any) -> None:
    found = recorded(
        SHAPES
        + """
between = Box(from_type=DEVICE, to_type=DEVICE, from_context=0x10, to_context=0x20, **box)
cuda.cuMemcpyPeer(word(device), none, word(device), none, size(10))
cuda.cuMemcpyPeerAsync(word(device), none, word(device), none, size(20), stream)
cuda.cuMemcpy3DPeer(byref(between))
cuda.cuMemcpy3DPeerAsync(byref(between), stream)
"""
    )
    assert copies(found, "flags", "bytes", "stream") == [
        (PEER, 10, 0),
        (PEER, 20, 0x5550),
        (PEER, 120, 0),
        (PEER, 120, 0x5550),
    ]
