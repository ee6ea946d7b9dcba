"""Run as a program, `GGUF FOLDER`: unpacks a GGUF file into a model folder that every engine loads.

A process of its own, so that torch and the unpacked weights never enter the process that asked.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(gguf: Path, folder: Path) -> None:
    """Writes the model and its tokenizer as safetensors and JSON."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # bfloat16 is what the weights were trained and published in. Its rounding is far below that of the 4-bit blocks,
    # and float32 would double the folder, and what engines load by default, for nothing.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
