"""What can be chosen: engine, model, one value on each axis, and the workload."""

from workbench.config.axes import Axis, KvBudget, Limits, Stock
from workbench.config.engine_config import EngineConfig, axes
from workbench.config.workload import Workload

__all__ = ["Axis", "EngineConfig", "KvBudget", "Limits", "Stock", "Workload", "axes"]
