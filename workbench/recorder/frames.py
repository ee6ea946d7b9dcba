"""How a Python frame is written: `torch/nn/modules/linear.py:134 forward`, the same on every machine."""

from __future__ import annotations

import os
import re

_INSTALLED = re.compile(r"^.*?/(?:(?:site|dist)-packages|lib/python3\.\d+)/(?!site-packages|dist-packages)")


class Frames:
    """Writes frames, with files named from where Python finds them instead of from the root of this machine."""

    def __init__(self) -> None:
        folders = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        self._home = os.path.expanduser("~") + "/"
        self._roots = sorted({os.path.normpath(folder) + "/" for folder in folders if folder}, key=len, reverse=True)

    def text(self, file: str, function: str, line: str) -> str:
        """A frame on one line."""
        return f"{self._short(os.path.normpath(file))}:{line} {function}"

    def _short(self, path: str) -> str:
        if installed := _INSTALLED.match(path):
            return path[installed.end() :]
        root = next((root for root in self._roots if path.startswith(root)), "")
        if not root and path.startswith(self._home):
            return "~/" + path[len(self._home) :]
        return path[len(root) :]
