"""A vLLM worker that reports its steps as phases, and what they allocate as weights or KV cache."""

from __future__ import annotations

import os
from typing import Any

from vllm.v1.worker.gpu_worker import Worker

import workbench


class RecordedWorker(Worker):  # type: ignore[misc]
    """Named to vLLM by `worker_cls`. With PROCESS_GROUP=gloo in the environment its groups are gloo's."""

    def init_device(self) -> None:
        if os.environ.get("PROCESS_GROUP") == "gloo":
            from vllm.platforms import current_platform

            current_platform.dist_backend = "gloo"
        with workbench.phase("init_device"):
            super().init_device()

    def load_model(self, *given: Any, **named: Any) -> None:
        with workbench.phase("load_weights"), workbench.tag("weights"):
            super().load_model(*given, **named)

    def determine_available_memory(self) -> int:
        with workbench.phase("profile"), workbench.tag("activations"):
            return int(super().determine_available_memory())

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        with workbench.phase("kv_cache"), workbench.tag("kv_cache"):
            super().initialize_from_config(kv_cache_config)

    def compile_or_warm_up_model(self) -> Any:
        with workbench.phase("capture"), workbench.tag("graphs"):
            return super().compile_or_warm_up_model()
