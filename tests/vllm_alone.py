"""vLLM in the process of the tests, where one engine at a time has room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.probes import Notes
from workbench.recorder import recorder


@contextmanager
def reporting_to(notes: Notes) -> Iterator[None]:
    """Lets vLLM's worker report to `notes`; afterwards the process is as it was, as far as other tests notice."""
    import torch

    environment, set_threads, threads = dict(os.environ), torch.set_num_threads, torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other, which takes ten times as long where other tests run beside
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "_current", notes)
        yield
    torch.set_num_threads = set_threads  # vLLM replaces it
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)
