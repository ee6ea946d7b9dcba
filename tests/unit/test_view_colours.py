"""Colours as colour-blind eyes see them."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from workbench.view.colours import colour_of

# Machado, Oliveira and Fernandes 2009, at full severity, of linear light.
EYES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1, 1.089])
LEAST = 7  # a difference in CIELAB that is seen at a glance; 2.3 is just noticeable
TOGETHER = {
    "gpu": ["torch", "libnccl.so.2", "context", "modules", "graphs", "streams", "libcublas.so.13", "before the run"],
    "tags": ["weights", "kv_cache", "activations", "graphs", "staging", "no tag"],
    "vllm": ["libopenblasp-r0-5f.so", "libscipy_openblas-5f890258.so", "libscipy_openblas64_-6e.so", "libcuda.so.1"],
    "cpu": ["torch", "python3.11", "heap", "file", "libtorch_cpu.so", "libtorch_python.so", "tokenizers", "others"],
}


def seen(colour: str, eyes: str) -> Any:
    """A colour in CIELAB, as such eyes see it."""
    channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    light = TO_XYZ @ np.clip(np.array(EYES[eyes]) @ linear, 0, 1) / WHITE
    x, y, z = np.where(light > 0.008856, np.cbrt(light), 7.787 * light + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
def test_what_is_seen_together_is_told_apart(names: list[str], eyes: str, theme: str) -> None:
    found = {name: seen(getattr(colour_of(name), theme), eyes) for name in names}
    near = [(a, b) for a, b in combinations(names, 2) if np.linalg.norm(found[a] - found[b]) < LEAST]
    assert near == []
