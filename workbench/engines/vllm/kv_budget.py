"""How many bytes vLLM's KV cache gets."""

from __future__ import annotations

from typing import Any

from workbench.config import KvBudget, Limits

BLOCK_SIZE = 16  # tokens, where vLLM decides only once it has loaded the model
OWN = 1  # block that vLLM keeps for itself: it is paid for, and no request gets it
MOST = 4 << 30  # bytes on the CPU, where no budget is given


def kv_cache_bytes(limits: Limits, vllm_config: Any, on_cpu: bool) -> int | None:
    """Gives the bytes to ask vLLM for; none: it takes a share of the GPU, as `gpu_memory_utilization` says."""
    budget = limits.kv_budget
    if budget is None:
        return _enough(limits.max_sequences, vllm_config) if on_cpu else None
    if budget.unit == "bytes":
        return int(budget.amount)
    if budget.unit == "tokens":
        return (blocks_for(int(budget.amount), vllm_config) + OWN) * block_bytes(vllm_config)
    return _share_of_host(budget) if on_cpu else None


def _enough(sequences: int, vllm_config: Any) -> int:
    """What the requests that run at once can fill.

    vLLM itself would take nearly all of the host, which is not its own as a GPU is; and at most so much, since many
    long requests rarely meet. One request must have room always.
    """
    each = blocks_for(vllm_config.model_config.max_model_len, vllm_config)
    block = block_bytes(vllm_config)
    return max(min((sequences * each + OWN) * block, MOST), (each + OWN) * block)


def _share_of_host(budget: KvBudget) -> int:
    """Of what is free on the memory node that vLLM's worker binds itself to, as the worker sees it."""
    from vllm.utils.cpu_resource_utils import get_allowed_cpu_list, get_memory_node_info

    node = get_memory_node_info(get_allowed_cpu_list()[0].numa_node)
    return int(node.available_memory * budget.amount / 100)


def blocks_for(tokens: int, vllm_config: Any) -> int:
    """Gives the number of blocks that so many tokens fill."""
    return -(-tokens // _block_size(vllm_config))


def block_bytes(vllm_config: Any) -> int:
    """Gives the bytes of a block: keys and values of its tokens in all layers of this rank."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    values = 2 * model.get_num_layers(parallel) * model.get_num_kv_heads(parallel) * model.get_head_size()
    return int(_block_size(vllm_config) * values * model.dtype.itemsize)


def _block_size(vllm_config: Any) -> int:
    return vllm_config.cache_config.block_size or BLOCK_SIZE
