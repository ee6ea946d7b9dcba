"""Questions that are answered by runs: one file a study, on the machinery in `base`."""

from __future__ import annotations

from collections.abc import Callable

from workbench.studies import kv_streams, pinned_memory, process_group
from workbench.studies.base import Study

STUDIES: dict[str, Callable[[], Study]] = {
    "process-group": process_group.study,
    "pinned-memory": pinned_memory.study,
    "kv-streams": kv_streams.study,
}
"""By name."""
