"""vLLM's worker, reporting what it does. Named to vLLM by `worker_cls`, which makes it in a process of its choice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from vllm.platforms import current_platform

from workbench.engines.vllm import groups
from workbench.mechanisms.process_group import ProcessGroup
from workbench.recorder import outside
from workbench.recorder.recorder import current


def _stock_worker() -> Any:
    """Gives vLLM's own worker for this platform; importing the other one's fails."""
    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_worker import CPUWorker

        return CPUWorker
    from vllm.v1.worker.gpu_worker import Worker

    return Worker


class RecordedWorker(_stock_worker()):  # type: ignore[misc]
    """Adds to every step of vLLM's own worker that it is reported, and nothing else. In the order of their calls."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._group: ProcessGroup | None = None
        self._room = 0

    def init_device(self, *given: Any, **named: Any) -> Any:
        if current_platform.is_cpu():
            _ask_for_tiles()
        meeting = Path(self.distributed_init_method).name.rpartition(":")[2]  # a file, or before vLLM 0.29 a port
        outside.claim_shared_memory(f"{meeting}-")  # where ranks on the CPU exchange data
        name, store = os.environ[groups.VARIABLE].split(" ", 1)
        with current().phase("init_device"), groups.backend(name), groups.named():
            self._group = groups.begun(name, store, self.rank, self.parallel_config.world_size, self.local_rank)
            return super().init_device(*given, **named)

    def load_model(self, *given: Any, **named: Any) -> Any:
        probe = current()
        with probe.phase("load_weights"), probe.tag("weights"):
            return super().load_model(*given, **named)

    def determine_available_memory(self, *given: Any, **named: Any) -> Any:
        probe = current()
        with probe.phase("profile"), probe.tag("activations"):
            self._room = super().determine_available_memory(*given, **named)
        return self._room

    def initialize_from_config(self, *given: Any, **named: Any) -> Any:
        probe = current()
        with probe.phase("kv_cache"), probe.tag("kv_cache"):
            return super().initialize_from_config(*given, **named)

    def compile_or_warm_up_model(self, *given: Any, **named: Any) -> Any:
        outside.claim_mapped_memory()
        probe = current()
        with probe.phase("capture"), probe.tag("graphs"):
            found = super().compile_or_warm_up_model(*given, **named)
        if self.parallel_config.world_size > 1:  # it has a process to itself; else who drives vLLM says what steps are
            probe.tag("activations").__enter__()
        return found

    def process_group(self) -> dict[str, Any]:
        """Gives this rank's place, and by what its groups' data really go."""
        return groups.described()

    def shutdown(self) -> None:
        super().shutdown()
        if self._group:
            groups.ended(self._group)
            self._group = None

    def what_runs(self) -> dict[str, Any]:
        """Gives what this worker really runs and took, whatever was asked for."""
        layers = self.vllm_config.compilation_config.static_forward_context.values()
        backends = {layer.get_attn_backend().get_name() for layer in layers if hasattr(layer, "get_attn_backend")}
        storages = [cache.untyped_storage() for cache in _tensors(self.model_runner.kv_caches)]
        return {
            "runner": f"{'V2' if self.use_v2_model_runner else 'V1'} {type(self.model_runner).__name__}",
            "attention": ", ".join(sorted(backends)),
            "graphs": self.vllm_config.compilation_config.cudagraph_mode.name.lower(),  # vLLM may take another kind
            "device": current_platform.get_device_name(),
            "kv_room_bytes": self._room,
            "kv_cache_bytes": sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()),
        }


def _ask_for_tiles() -> None:
    """Has Linux let this process use the processor's AMX, if it has one: vLLM's attention does so unasked, and dies.

    Unless oneDNN has asked before, which depends on the model's shape.
    """
    if ask := getattr(torch.cpu, "_init_amx", None):
        ask()


def _tensors(caches: Any) -> list[Any]:
    """Gives the tensors in the runner's list of caches, in which some kinds of layer have a list of their own."""
    return [tensor for cache in caches for tensor in (cache if isinstance(cache, list | tuple) else [cache])]
