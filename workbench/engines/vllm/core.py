"""What vLLM's engine core knows and tells nobody: it lives in this process, and is looked into here and only here."""

from __future__ import annotations

from typing import Any

from workbench.engines.vllm.launches import Launches
from workbench.errors import EngineError


class Core:
    """The scheduler's side of a vLLM engine whose core is in this process."""

    # vLLM's own way to tell this, its statistics, costs every step more than the whole of the recording.

    def __init__(self, engine: Any) -> None:
        if not hasattr(engine.engine_core, "engine_core"):
            raise EngineError("vLLM's engine core is in another process: unset VLLM_ENABLE_V1_MULTIPROCESSING")
        core = engine.engine_core.engine_core
        # Batches are launched ahead, into a queue, where vLLM schedules asynchronously.
        self._queue = () if core.batch_queue is None else core.batch_queue
        self.launches = Launches(self._queue)
        self.launches.note(core.model_executor, core.scheduler)
        self._scheduler = core.scheduler
        self.blocks: int = core.scheduler.kv_cache_manager.block_pool.num_gpu_blocks  # of the KV cache
        self.block_size: int = core.vllm_config.cache_config.block_size  # tokens

    @property
    def tokens(self) -> int:
        """How many tokens' keys and values there is room for: vLLM keeps the first block for itself."""
        return (self.blocks - 1) * self.block_size

    def answered(self) -> list[tuple[str, int]]:
        """Gives how many tokens each answer has that is not complete, by vLLM's name of its request."""
        return [(name, request.num_output_tokens) for name, request in self._scheduler.requests.items()]

    def in_flight(self) -> int:
        """Gives the number of batches that were launched and whose outcome nobody has taken yet."""
        return len(self._queue)
