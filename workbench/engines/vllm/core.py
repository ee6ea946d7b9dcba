"""What vLLM's engine core knows and tells nobody: it lives in this process, and is looked into here and only here."""

from __future__ import annotations

from typing import Any

from workbench.engines.vllm.batches import Batches
from workbench.errors import EngineError


class Core:
    """The scheduler's side of a vLLM engine whose core is in this process."""

    # vLLM's own way to tell this, its statistics, costs every step more than the whole of the recording.

    def __init__(self, engine: Any) -> None:
        if not hasattr(engine.engine_core, "engine_core"):
            raise EngineError("vLLM's engine core is in another process: unset VLLM_ENABLE_V1_MULTIPROCESSING")
        core = engine.engine_core.engine_core
        self.batches = Batches()
        self.batches.note(core.model_executor)
        self._scheduler = core.scheduler
        # Batches are launched ahead, into a queue, where vLLM schedules asynchronously.
        self._queue = () if core.batch_queue is None else core.batch_queue
        self._pool = core.scheduler.kv_cache_manager.block_pool
        self.blocks: int = self._pool.num_gpu_blocks  # of the KV cache
        self.block_size: int = core.vllm_config.cache_config.block_size  # tokens

    @property
    def tokens(self) -> int:
        """How many tokens' keys and values there is room for: vLLM keeps the first block for itself."""
        return (self.blocks - 1) * self.block_size

    def in_flight(self) -> int:
        """Gives the number of batches that were launched and whose outcome nobody has taken yet."""
        return len(self._queue)

    def waiting(self) -> int:
        """Gives the number of requests that are in no batch yet."""
        return int(self._scheduler.get_request_counts()[1])

    def blocks_in_use(self) -> int:
        """Gives the number of blocks of the KV cache that are not free; vLLM's own first one is in use always."""
        return int(self.blocks - self._pool.get_num_free_blocks())
