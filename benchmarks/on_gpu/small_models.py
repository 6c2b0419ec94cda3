"""A small model with random weights of each architecture whose steps the package computes itself.

Heads have the size that real ones have, so that the same kernels compute.
"""

from __future__ import annotations

from typing import Any

from peers.weights import SEED

_SPREAD = 0.09
_WINDOW = 16
_SIZES = {
    "vocab_size": 1000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
_GPT2_SIZES = {"vocab_size": 1000, "n_embd": 256, "n_layer": 2, "n_head": 4, "n_positions": 512}
_OPTIONS: dict[str, dict[str, Any]] = {
    "llama": _SIZES,
    "smollm3": {**_SIZES, "num_hidden_layers": 4},  # every fourth layer has no positions
    "gpt2": _GPT2_SIZES,
    "gpt_neo": {
        "vocab_size": 1000, "hidden_size": 256, "num_layers": 2, "num_heads": 4,
        "max_position_embeddings": 512, "window_size": _WINDOW,
        "attention_types": [[["global", "local"], 1]],
    },
    "codegen": {**_GPT2_SIZES, "n_ctx": 512, "rotary_dim": 32},
    "qwen2": _SIZES,
    "qwen3": {**_SIZES, "head_dim": 128},
    "gemma3_text": {
        **_SIZES, "num_hidden_layers": 4, "num_key_value_heads": 1, "head_dim": 128,
        "sliding_window": _WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "mistral": {**_SIZES, "sliding_window": _WINDOW},
    "phi3": {
        **_SIZES, "sliding_window": _WINDOW, "original_max_position_embeddings": 512,
    },
    "gpt_neox": {**_SIZES, "num_key_value_heads": 4},
}  # fmt: skip
ARCHITECTURES = tuple(_OPTIONS)


def make(architecture: str) -> Any:
    """A model in float32, from a fixed seed, whose scores differ enough to tell them apart."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    config = AutoConfig.for_model(architecture, **_OPTIONS[architecture], **ids)
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, _SPREAD)
    return model.float().eval()
