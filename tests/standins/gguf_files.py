"""Models in GGUF, written by the format's own package from folders that save_pretrained() wrote.

As llama.cpp's converter does it: the same names, kinds of tokens, and changes of the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, TokenType

ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "smollm3": "smollm3",
    "phi3": "phi3", "gemma3_text": "gemma3", "lfm2": "lfm2",
}  # fmt: skip
_TOP = {
    "model.embedding_norm": "token_embd_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LAYER = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
_LFM2 = {
    "operator_norm": "attn_norm", "ffn_norm": "ffn_norm", "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm", "self_attn.k_layernorm": "attn_k_norm",
    "feed_forward.w1": "ffn_gate", "feed_forward.w3": "ffn_up", "feed_forward.w2": "ffn_down",
    "conv.in_proj": "shortconv.in_proj", "conv.conv": "shortconv.conv",
    "conv.out_proj": "shortconv.out_proj",
}  # fmt: skip
_GEMMA = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip

Change = Callable[[gguf.GGUFWriter], None]


def save(
    path: Path,
    folder: Path,
    type: str = "F32",
    *,
    pre: str = "gpt-2",
    change: Change = lambda _: None,
    parts: int = 0,
    **options: Any,
) -> Path:
    """Write the model in a folder to a GGUF file.

    Args:
        type: of the matrices; norms and biases are F32.
        pre: what the words of its byte-level vocabulary are called.
        change: is given the writer before anything is written.
        parts: so many tensors at most in a file of several; 0 for one file.
        options: for `add_vocabulary`.

    Returns:
        The file, or the first part.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    architecture = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=parts)
    describe(writer, config)
    add_vocabulary(writer, folder, pre=pre, **options)
    for name, weights in tensors(folder, config):
        add_tensor(writer, name, weights, type)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if path.exists() else sorted(path.parent.glob(f"{path.stem}-00001-of-*"))[0]


def describe(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """Write what config.json says."""
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_name("tiny")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(_inner_size(config))
    writer.add_head_count(heads)
    if config["model_type"] == "lfm2":
        kinds, count = config["layer_types"], config["num_key_value_heads"]
        writer.add_head_count_kv([0 if each == "conv" else count for each in kinds])
        writer.add_shortconv_l_cache(config["conv_L_cache"])
    else:
        writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config.get("norm_eps") or config["rms_norm_eps"])
    writer.add_key_length(size)
    writer.add_value_length(size)
    rope = config["rope_parameters"]
    rope = rope.get("full_attention", rope)
    part = rope.get("partial_rotary_factor", 1.0)
    writer.add_rope_dimension_count(int(size * part))
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", _factors(rope, size))
    if config["model_type"] in ("phi3", "gemma3_text"):
        writer.add_sliding_window(config["sliding_window"] or 0)


def _inner_size(config: dict[str, Any]) -> int:
    """Of the MLP; of LFM2 two thirds of what is said, in whole blocks."""
    size: int = config["intermediate_size"]
    if not config.get("block_auto_adjust_ff_dim"):
        return size
    block = config["block_multiple_of"]
    return -(-int(config["block_ffn_dim_multiplier"] * int(2 * size / 3)) // block) * block


def _factors(rope: dict[str, Any], size: int) -> np.ndarray:
    """What the frequencies of Llama 3.1 are divided by."""
    frequencies = 1 / rope["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float32) / size)
    before, low, high = 8192, rope["low_freq_factor"], rope["high_freq_factor"]
    found = []
    for length in 2 * math.pi / frequencies:
        smooth = (before / length - low) / (high - low)
        if length < before / high:
            found.append(1.0)
        elif length > before / low:
            found.append(rope["factor"])
        else:
            found.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(found, np.float32)


def add_vocabulary(
    writer: gguf.GGUFWriter,
    folder: Path,
    *,
    pre: str = "gpt-2",
    padded_to: int = 0,
    scores: dict[str, float] | None = None,
) -> None:
    """Write the tokenizer.json and tokenizer_config.json of a folder.

    ``scores`` has those of a vocabulary of SentencePiece's, which is byte-level without.
    """
    raw = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    names = dict(raw["model"]["vocab"]) | {
        each["content"]: each["id"] for each in raw["added_tokens"]
    }
    special = {each["content"]: each["special"] for each in raw["added_tokens"]}
    tokens = sorted(names, key=names.__getitem__)
    kinds = []
    for token in tokens:
        kind = TokenType.NORMAL
        if token in special:
            kind = TokenType.CONTROL if special[token] else TokenType.USER_DEFINED
        if token == settings.get("unk_token"):
            kind = TokenType.UNKNOWN
        if scores is not None and len(token) == 6 and token.startswith("<0x"):
            kind = TokenType.BYTE
        kinds.append(kind)
    for number in range(len(tokens), padded_to):
        tokens.append(f"[PAD{number}]")
        kinds.append(TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2" if scores is None else "llama")
    writer.add_tokenizer_pre(pre if scores is None else "default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if scores is None:
        merges = raw["model"]["merges"]
        writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in merges])
    else:
        writer.add_token_scores([scores.get(token, -1000.0) for token in tokens])
    adders = {
        "bos_token": writer.add_bos_token_id, "eos_token": writer.add_eos_token_id,
        "pad_token": writer.add_pad_token_id, "unk_token": writer.add_unk_token_id,
    }  # fmt: skip
    for name, add in adders.items():
        if settings.get(name):
            add(names[settings[name]])
    template = folder / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text("utf-8"))
    ids = _added_around(raw)
    writer.add_add_bos_token(names.get(settings.get("bos_token")) in ids)
    writer.add_add_eos_token(names.get(settings.get("eos_token")) in ids)


def _added_around(raw: dict[str, Any]) -> set[int]:
    """The tokens that a post-processor adds."""
    steps = [raw["post_processor"] or {}]
    found: set[int] = set()
    while steps:
        step = steps.pop()
        steps += step.get("processors", [])
        for token in step.get("special_tokens", {}).values():
            found |= set(token["ids"])
    return found


def tensors(folder: Path, config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a folder by their names in GGUF, changed as the format wants it."""
    from safetensors.torch import load_file

    architecture = ARCHITECTURES[config["model_type"]]
    names = _LAYER | {"gemma3": _GEMMA, "lfm2": _LFM2}.get(architecture, {})
    for stored in sorted(folder.glob("*.safetensors")):
        for name, values in load_file(stored).items():
            part, _, end = name.rpartition(".")
            weights = values.float().numpy()
            if name.endswith("conv.conv.weight"):
                weights = weights[:, 0]
            if architecture == "gemma3" and name.endswith("norm.weight"):
                weights = weights + np.float32(1)
            if architecture in ("llama", "smollm3"):
                if part.endswith(".q_proj"):
                    weights = swapped(weights, config["num_attention_heads"])
                elif part.endswith(".k_proj"):
                    weights = swapped(weights, config["num_key_value_heads"])
            if part.startswith("model.layers."):
                _, _, number, inner = part.split(".", 3)
                yield f"blk.{number}.{names[inner]}.{end}", weights
            else:
                yield f"{_TOP[part]}.{end}", weights


def swapped(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order in which those that turn together are neighbours."""
    halves = weights.reshape(heads, 2, len(weights) // heads // 2, *weights.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weights.shape)


def add_tensor(writer: gguf.GGUFWriter, name: str, weights: np.ndarray, type: str) -> None:
    """Write a tensor, as a type if it has two dimensions.

    Of types that the package cannot write it has codes at random.
    """
    kind = GGMLQuantizationType[type]
    if name.endswith("shortconv.conv.weight"):
        kind, type = GGMLQuantizationType.F32, "F32"
    if weights.ndim == 2 and type in SCALES:
        writer.add_tensor(name, random_blocks(weights.shape, type, len(name)), raw_dtype=kind)
    elif weights.ndim < 2 or kind == GGMLQuantizationType.F32:
        writer.add_tensor(name, np.ascontiguousarray(weights))
    else:
        writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)


def random_blocks(shape: tuple[int, ...], type: str, seed: int = 0) -> np.ndarray:
    """Packed weights of a type that the package cannot write: codes at random, scales of use."""
    kind = GGMLQuantizationType[type]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    draw = np.random.default_rng(seed)
    blocks = draw.integers(0, 256, (*shape[:-1], shape[-1] // block, size), np.uint8)
    scale = np.frombuffer(np.float16(0.002).tobytes(), np.uint8)
    for place in SCALES[type]:
        blocks[..., place : place + 2] = scale
    return blocks.reshape(*shape[:-1], -1)


SCALES = {
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
    "IQ4_XS": (0,), "IQ4_NL": (0,),
}  # fmt: skip
"""Where the blocks of types that the package reads and does not write have their scales."""
