"""Python runs this at its start where the folder is on PYTHONPATH: a recorded process joins its recording."""

import os
import sys
from contextlib import suppress
from importlib.machinery import PathFinder

if os.environ.get("WORKBENCH_RUN"):
    with suppress(ImportError):  # another Python, without the workbench: the native sources still record it
        from workbench.recorder.recorder import join

        join(os.environ["WORKBENCH_RUN"])

# The environment may have a sitecustomize of its own, which this one stands in front of.
_here = os.path.dirname(os.path.abspath(__file__))
_next = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path or ".") != _here])
if _next is not None and _next.loader is not None:
    _next.loader.exec_module(sys.modules[__name__])
