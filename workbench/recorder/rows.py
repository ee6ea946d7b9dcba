"""A process's records as the scribe handles them: with the run's numbers for names instead of the process's own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workbench.recorder.rings import RECORD

Rows = npt.NDArray[np.void]

_PLACES = {name: place for name, (_, place, *_) in (RECORD.fields or {}).items() if name != "tag"}
_PLACES["tag"] = _PLACES.pop("waited_us")

ROW: np.dtype[np.void] = np.dtype(
    {
        "names": list(_PLACES),
        "formats": [np.dtype("u4") if name == "tag" else RECORD[name] for name in _PLACES],
        "offsets": list(_PLACES.values()),
        "itemsize": RECORD.itemsize,
    }
)
"""RECORD with room for a tag of the whole run, where a copy, which has none, keeps how long it waited."""


def none() -> Rows:
    """No rows."""
    return np.zeros(0, ROW)


def renamed(records: Rows, names: npt.NDArray[np.uint32], stacks: npt.NDArray[np.uint32]) -> Rows:
    """The records of a process as rows; `names` and `stacks` have the run's numbers at the places of its own."""
    rows: Rows = records.view(ROW)
    rows["owner"] = names[records["owner"]]
    rows["stack"] = stacks[records["stack"]]
    rows["tag"] |= names[records["tag"]]  # of no tag it is 0
    return rows
