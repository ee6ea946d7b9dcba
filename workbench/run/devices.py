"""Which GPUs a run is of: those on which one of its processes took memory. What is in use on others is not its matter,
and may be anybody's: a machine has more GPUs than most programs use."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from workbench.run.columns import Ints, Mask, numbers


def used(events: pa.Table, driver: int) -> Ints:
    """The numbers of the GPUs on which a process took memory from the driver; `driver`: the id of that layer's name."""
    taken = (numbers(events, "device") >= 0) & (numbers(events, "process") != 0)
    taken &= numbers(events, "layer") == driver
    return np.unique(numbers(events, "device")[taken])


def is_of(rows: pa.Table, ours: Ints) -> Mask:
    """Which rows are of these GPUs, or of the host."""
    devices = numbers(rows, "device")
    return np.asarray((devices < 0) | np.isin(devices, ours))
