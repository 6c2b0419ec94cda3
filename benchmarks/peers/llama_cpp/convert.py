"""From a folder with weights of Llama or SmolLM3 to a GGUF file in the same precision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType

_TYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "BF16": np.dtype("<u2")}
_MODELS = ("llama", "smollm3")  # by the same names in GGUF; the same tensors
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OTHERS = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}


def convert(folder: Path, precision: str, file: Path) -> None:
    """Write the model, with its vocabulary, which is read with it.

    Raises:
        ValueError: the model is another one, or its weights are stored in another precision.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if config["model_type"] not in _MODELS:
        raise ValueError(f"{config['model_type']} is not converted, only {', '.join(_MODELS)}")
    unfinished = file.with_suffix(".part")
    writer = GGUFWriter(unfinished, config["model_type"])
    _describe(writer, config, precision)
    _add_vocabulary(writer, json.loads((folder / "tokenizer.json").read_text("utf-8")))
    for stored in sorted(folder.glob("*.safetensors")):
        for name, kind, values in _tensors(stored):
            _add(writer, config, name, kind, values, precision)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(file)


def _describe(writer: GGUFWriter, config: dict[str, Any], precision: str) -> None:
    heads = config["num_attention_heads"]
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    bf16 = precision == "bfloat16"
    writer.add_file_type(LlamaFileType.MOSTLY_BF16 if bf16 else LlamaFileType.ALL_F32)


def _add_vocabulary(writer: GGUFWriter, tokenizer: dict[str, Any]) -> None:
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    special = {each["content"] for each in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    types = [TokenType.CONTROL if each in special else TokenType.NORMAL for each in tokens]
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(each) for each in tokenizer["model"]["merges"]])


def _tensors(file: Path) -> Iterator[tuple[str, str, Any]]:
    """Name, type and values (bfloat16 as its bits) of each tensor of a safetensors file."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    data = np.memmap(file, np.uint8, "r", offset=8 + length)
    for name, told in header.items():
        begin, end = told["data_offsets"]
        kind = told["dtype"]
        if kind not in _TYPES:
            raise ValueError(f"weights are stored as {kind}")
        yield name, kind, data[begin:end].view(_TYPES[kind]).reshape(told["shape"])


def _add(
    writer: GGUFWriter, config: dict[str, Any], name: str, kind: str, values: Any, precision: str
) -> None:
    if name.endswith("q_proj.weight"):
        values = _rotated(values, config["num_attention_heads"])
    elif name.endswith("k_proj.weight"):
        values = _rotated(values, config["num_key_value_heads"])
    if values.ndim == 1:  # norms are float32 in every file
        if kind == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        writer.add_tensor(_name(name), np.ascontiguousarray(values))
    elif kind != {"bfloat16": "BF16", "float32": "F32"}[precision]:
        raise ValueError(f"weights are stored as {kind}, not as {precision}")
    elif kind == "BF16":
        octets = np.ascontiguousarray(values).view(np.uint8)
        writer.add_tensor(_name(name), octets, raw_dtype=GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(_name(name), np.ascontiguousarray(values))


def _rotated(values: Any, heads: int) -> Any:
    """Rows in the order of GGUF's Llama: pairs that turn together are neighbours."""
    rows, columns = values.shape
    halves = values.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def _name(name: str) -> str:
    parts = name.removeprefix("model.").removesuffix(".weight")
    if parts.startswith("layers."):
        _, number, inner = parts.split(".", 2)
        return f"blk.{number}.{_LAYER[inner]}.weight"
    return f"{_OTHERS[parts]}.weight"
