"""vLLM, as it is, reporting to a probe. The only place that imports vllm."""
