"""From a config to a vLLM engine, through vLLM's public arguments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workbench.config import EngineConfig
from workbench.config.models import has_tokenizer, has_weights
from workbench.engines.vllm.kv_budget import kv_cache_bytes

WORKER = "workbench.engines.vllm.worker.RecordedWorker"
MAX_BATCHED_TOKENS = 2048  # where limits.max_batched_tokens says nothing

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core lives in this process
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # it is compiled at its first use, which needs a CUDA toolkit
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is the caller's
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TQDM_DISABLE": "1",  # one of vLLM's progress bars has no other switch
}

GRAPHS: dict[str, dict[str, Any]] = {
    "stock": {},
    "none": {"enforce_eager": True},
    "piecewise": {"compilation_config": {"cudagraph_mode": "PIECEWISE"}},
    "full": {"compilation_config": {"cudagraph_mode": "FULL"}},
}


def prepare(ranks: int = 1) -> None:
    """Sets what vLLM reads from the environment when it is imported, where nobody has set it otherwise."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if ranks > 1:  # of use on the CPU only; vLLM itself wants a NUMA node for each
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", _cores_of(ranks))


def _cores_of(ranks: int) -> str:
    """An equal share of this process's cores for each rank, in vLLM's words."""
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // ranks
    shares = (cores[rank * share : (rank + 1) * share] for rank in range(ranks))
    return "|".join(",".join(map(str, mine)) for mine in shares) if share else "nobind"


def start(config: EngineConfig, folder: Path) -> Any:
    """Gives vLLM's engine, with the model in it."""
    from vllm import EngineArgs, LLMEngine
    from vllm.platforms import current_platform

    vllm_config = EngineArgs(**arguments(config, folder)).create_engine_config()
    # Known only now: what a token takes, and how many are a block.
    if budget := kv_cache_bytes(config.limits, vllm_config, current_platform.is_cpu()):
        vllm_config.cache_config.kv_cache_memory_bytes = budget
    return LLMEngine.from_vllm_config(vllm_config, disable_log_stats=True)


def arguments(config: EngineConfig, folder: Path) -> dict[str, Any]:
    """Gives the arguments of vLLM's engine that a config stands for."""
    limits = config.limits
    chosen: dict[str, Any] = {
        "model": str(folder),
        "dtype": config.dtype,
        "max_num_seqs": limits.max_sequences,
        "max_num_batched_tokens": limits.max_batched_tokens or max(MAX_BATCHED_TOKENS, limits.max_sequences),
        "max_model_len": limits.max_length,
        "worker_cls": WORKER,
        "use_tqdm_on_load": False,
        "disable_log_stats": True,
    }
    if limits.kv_budget and limits.kv_budget.unit == "share":
        chosen["gpu_memory_utilization"] = limits.kv_budget.amount / 100
    if not has_weights(folder):
        chosen["load_format"] = "dummy"
    if not has_tokenizer(folder):
        chosen["skip_tokenizer_init"] = True
    if config.parallel.tensor > 1:
        chosen |= {"tensor_parallel_size": config.parallel.tensor, "distributed_executor_backend": "mp"}
    return chosen | GRAPHS[config.graphs.name]
