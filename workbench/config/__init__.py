"""What can be chosen: engine, model, one value on each axis, and the workload."""

from workbench.config.axes import (
    Axis,
    FullGraphs,
    Gloo,
    KvBudget,
    Limits,
    NcclEager,
    NcclLazy,
    NoGraphs,
    Parallel,
    PiecewiseGraphs,
    Stock,
)
from workbench.config.engine_config import EngineConfig, axes
from workbench.config.workload import Workload

__all__ = [
    "Axis",
    "EngineConfig",
    "FullGraphs",
    "Gloo",
    "KvBudget",
    "Limits",
    "NcclEager",
    "NcclLazy",
    "NoGraphs",
    "Parallel",
    "PiecewiseGraphs",
    "Stock",
    "Workload",
    "axes",
]
