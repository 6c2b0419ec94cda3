"""Tiny models of every causal language model that transformers knows, made from their defaults.

A config's own defaults are those of a real model: billions of weights. What gives it its size is
made small by the names that transformers' configs use for it; what follows from that (the kinds of
layers, say) the config computes itself.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

_VOCABULARY = ("vocab_size", "vocab_size_per_layer_input")
_MOST_PARAMETERS = 40_000_000
_LAYERS = 4
"""Enough for a layer of each kind in most patterns."""

_SIZES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        _LAYERS,
        (
            *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"),
            *("num_decoder_layers", "encoder_layers", "max_window_layers"),
        ),
    ),
    (
        32,
        (
            *(
                "hidden_size",
                "n_embd",
                "d_model",
                "embedding_size",
                "word_embed_proj_dim",
                "dim_model",
            ),
            *("embed_dim", "kv_lora_rank", "q_lora_rank", "attention_hidden_size"),
            *("mamba_d_ssm", "lru_width"),
        ),
    ),
    (
        64,
        (
            *("intermediate_size", "ffn_dim", "n_inner", "d_ff", "moe_intermediate_size", "dim_ff"),
            *("decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size", "d_inner", "dff"),
            *("shared_expert_intermediate_size", "expert_ffn_hidden_size", "intermediate_size_mlp"),
            *("ffn_config.ffn_hidden_size", "mlp_hidden_size", "shared_intermediate_size"),
        ),
    ),
    (
        4,
        (
            *("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"),
            *("encoder_attention_heads", "num_experts", "num_local_experts", "n_routed_experts"),
            *("linear_num_value_heads", "mamba_n_heads", "mamba_num_heads"),
        ),
    ),
    (
        2,
        (
            *("num_key_value_heads", "num_experts_per_tok", "linear_num_key_heads", "n_group"),
            *("num_kv_heads", "topk_group", "moe_topk", "num_experts_per_token"),
        ),
    ),
    (
        8,
        (
            *("head_dim", "qk_nope_head_dim", "v_head_dim", "d_kv", "hidden_size_per_layer_input"),
            *("linear_key_head_dim", "linear_value_head_dim", "mamba_d_state", "mamba_d_head"),
            *(
                "rotary_dim",
                "qk_rope_head_dim",
                "state_size",
                "ssm_state_size",
            ),
            *("global_head_dim", "swa_head_dim", "attention_head_dim", "dim_head", "qk_head_dim"),
        ),
    ),
    (
        16,
        (
            "sliding_window",
            "window_size",
            "attention_window_size",
            "sliding_window_size",
            "attention_chunk_size",
        ),
    ),
    (512, ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")),
)
"""Of a tiny model, by the names of what has that size; only what is a number by default is set."""


_OPTIONS: dict[str, dict[str, Any]] = {
    # Their sizes depend on each other.
    "bamba": {"mamba_d_head": 16, "attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"mamba_d_head": 16, "layer_types": ["mamba", "attention"] * 2},
    "mamba2": {"head_dim": 16},
    "nemotron_h": {"n_groups": 2, "mamba_head_dim": 16},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "zamba2": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 64},
    },
    "deepseek_v2": {"topk_group": 1, "n_group": 1, "num_experts_per_tok": 2},
    "gemma3n_text": {"num_kv_shared_layers": 0, "intermediate_size": 64},
    "gemma4_unified_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "per_layer_config": {1: {"head_dim": 16}, 3: {"head_dim": 16}},
    },
    "gemma4_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "per_layer_config": {1: {"head_dim": 16}, 3: {"head_dim": 16}},
        "num_kv_shared_layers": 2,
    },
    "longcat_flash": {"head_dim": 8, "qk_head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "recurrent_gemma": {"num_key_value_heads": 4},
    # A layer of each kind, of which the default has one alone.
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "cohere_compass_text": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    # As a decoder, which they are not by default.
    "xmod": {"default_language": "en_XX"},
    "reformer": {"is_decoder": True},
}
_UNSET = ("head_dim", "num_key_value_heads")
"""What follows from other sizes where it is None."""


class CannotBeMade(Exception):
    """There is no tiny model of a kind; says why."""


def kinds() -> list[str]:
    """The model types of transformers that have a class for causal language modelling."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(kind: str, vocabulary: int, **options: Any) -> Any:
    """A config with the sizes of a tiny model.

    Raises:
        CannotBeMade: its class takes no such sizes.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[kind]
    try:
        default = config_class()
        given = {**_small(default, vocabulary), **_OPTIONS.get(kind, {}), **options}
        return config_class(pad_token_id=0, bos_token_id=1, eos_token_id=2, **given)
    except Exception as error:
        raise CannotBeMade(f"its config: {type(error).__name__}: {error}") from None


def _small(config: Any, vocabulary: int) -> dict[str, Any]:
    """Sizes for what a config has."""
    sizes: dict[str, Any] = {}
    fields = getattr(type(config), "__dataclass_fields__", {})
    for size, names in ((vocabulary, _VOCABULARY), *_SIZES):
        for name in names:
            if name in fields and _is_size(config, name):
                sizes[name] = size
    if "kv_lora_rank" in fields and "num_key_value_heads" in sizes:
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]  # compressed instead
    if "is_decoder" in fields:
        sizes["is_decoder"] = True
    for name in getattr(type(config), "sub_configs", {}):
        sub = getattr(config, name, None)
        if sub is not None:
            whole = sub.to_diff_dict()
            whole.pop("layer_types", None)
            whole.pop("per_layer_config", None)
            own = _OPTIONS.get(sub.model_type, {})
            sizes[name] = {**whole, **_small(sub, vocabulary), **own}
    return sizes


def _is_size(config: Any, name: str) -> bool:
    try:
        number = getattr(config, name)
    except Exception:  # it differs among layers
        return True
    if number is None:
        return name in _UNSET
    return isinstance(number, int) and not isinstance(number, bool) and number > 0


def make(kind: str, vocabulary: int, **options: Any) -> Any:
    """A model of so many tokens, as it is initialised; ``options`` go to its config.

    Raises:
        CannotBeMade: none can be, or it is not tiny.
    """
    from transformers import AutoModelForCausalLM

    config = tiny_config(kind, vocabulary, **options)
    try:
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(copy.deepcopy(config))
        count = sum(each.numel() for each in empty.parameters())
        if count <= _MOST_PARAMETERS:
            return AutoModelForCausalLM.from_config(config)
    except Exception as error:
        raise CannotBeMade(f"its model: {type(error).__name__}: {error}") from None
    raise CannotBeMade(f"it has {count:,} parameters")
