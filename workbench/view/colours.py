"""The colour of an owner or a tag: always the same, told apart by colour-blind eyes, in a light and a dark theme."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from zlib import crc32


@dataclass(frozen=True)
class Colour:
    """One colour of the palette: on a light ground and on a dark one."""

    light: str
    dark: str


# After Paul Tol's schemes for colour-blind eyes; on dark ground the dark ones are raised. A test simulates such eyes.
PALETTE = {
    "blue": Colour("#4477AA", "#6699CC"),
    "cyan": Colour("#66CCEE", "#7FD3F0"),
    "green": Colour("#228833", "#4DAA5C"),
    "sand": Colour("#CCBB44", "#D6C75A"),
    "rose": Colour("#EE6677", "#F07F8D"),
    "purple": Colour("#AA3377", "#C45A97"),
    "indigo": Colour("#5B4FA0", "#7C70D8"),
    "teal": Colour("#44AA99", "#5FC2B2"),
    "olive": Colour("#8A8A2E", "#A8A84A"),
    "wine": Colour("#882255", "#B5517F"),
    "orange": Colour("#EE8866", "#F29E80"),
    "pear": Colour("#D5E08C", "#D0DE8C"),
}
UNUSED = Colour("#B9BFC7", "#59616B")
NONE = Colour("#7E8690", "#C0C8D2")

LIBRARY = re.compile(r"(\.abi3|\.cpython-[\w-]+)?\.so[0-9.]*$")
VERSION = re.compile(r"-[0-9a-f]{8}(\.[0-9.]+)?$|(?<=python)[0-9.]+$")  # a wheel's own library has a hash in its name
KNOWN = {
    "torch": "blue",
    "weights": "blue",
    "kv_cache": "green",
    "activations": "rose",
    "graphs": "sand",
    "staging": "teal",
    "libnccl": "rose",
    "context": "purple",
    "modules": "teal",
    "streams": "pear",
    "libcublas": "orange",
    "libcublasLt": "cyan",
    "libcuda": "wine",
    "python": "green",
    "libpython": "green",
    "heap": "cyan",
    "file": "purple",
    "libtorch_cpu": "indigo",
    "libc10_cuda": "blue",
    "libtorch_cuda": "blue",
    "libtorch_python": "pear",
    "libscipy_openblas": "teal",
    "libscipy_openblas64_": "sand",
    "libopenblasp-r0": "olive",
    "libarrow": "teal",
    "tokenizers": "orange",
    "_safetensors_rust": "purple",
    "_C": "rose",
    "libmagic": "pear",
    "mmap": "rose",
    "libnvidia-ml": "olive",
}
"""Those met most, so that they differ from each other where they are seen together."""


@cache
def colour_of(name: str) -> Colour:
    """The colour of an owner or a tag. What differs from build to build in a library's name does not matter."""
    if name.endswith("unused"):
        return UNUSED
    if name in ("no tag", "others", "before the run", "unexplained"):
        return NONE
    stem = VERSION.sub("", LIBRARY.sub("", name))
    if stem in KNOWN:
        return PALETTE[KNOWN[stem]]
    return list(PALETTE.values())[crc32(stem.encode()) % len(PALETTE)]
