"""Questions that are answered by runs: one file a study, on the machinery in `base`."""

from __future__ import annotations

from collections.abc import Callable

from workbench.studies import kv_streams
from workbench.studies.base import Study

STUDIES: dict[str, Callable[[], Study]] = {
    "kv-streams": kv_streams.study,
}
"""By name."""
