"""Records every byte an LLM engine takes, on one clock, and reads it back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from workbench.compare.comparison import Comparison as Comparison
    from workbench.compare.evidence import evidence as evidence
    from workbench.config import EngineConfig as EngineConfig
    from workbench.config import Workload as Workload
    from workbench.config import axes as axes
    from workbench.errors import WorkbenchError as WorkbenchError
    from workbench.launch.feed import Feed as Feed
    from workbench.launch.generation import Generation as Generation
    from workbench.launch.generation import generate as generate
    from workbench.launch.generation import record as record
    from workbench.launch.programs import record_program as record_program
    from workbench.launch.recording import recording as recording
    from workbench.launch.session import Answer as Answer
    from workbench.launch.session import Session as Session
    from workbench.recorder.recorder import phase as phase
    from workbench.recorder.recorder import tag as tag
    from workbench.recorder.settings import Settings as Settings
    from workbench.run.importing import import_snapshot as import_snapshot
    from workbench.run.ledger import Ledger as Ledger
    from workbench.run.run import Run as Run
    from workbench.run.store import Store as Store
    from workbench.run.timeline import Timeline as Timeline
    from workbench.view.panel import Panel as Panel

_HOMES = {
    "Answer": "launch.session",
    "Comparison": "compare.comparison",
    "EngineConfig": "config",
    "Feed": "launch.feed",
    "Generation": "launch.generation",
    "Ledger": "run.ledger",
    "Panel": "view.panel",
    "Run": "run.run",
    "Session": "launch.session",
    "Settings": "recorder.settings",
    "Store": "run.store",
    "Timeline": "run.timeline",
    "WorkbenchError": "errors",
    "Workload": "config",
    "axes": "config",
    "evidence": "compare.evidence",
    "generate": "launch.generation",
    "import_snapshot": "run.importing",
    "phase": "recorder.recorder",
    "record": "launch.generation",
    "record_program": "launch.programs",
    "recording": "launch.recording",
    "tag": "recorder.recorder",
}
"""Where each public name lives. It is imported at its first use: `import workbench` alone loads next to nothing."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    return getattr(import_module(f"workbench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext workbench`: gives the cell magic `%%record`."""
    from workbench.launch.magic import add_magic

    add_magic(shell)
