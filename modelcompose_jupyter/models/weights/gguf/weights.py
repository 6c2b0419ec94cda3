"""The tensors of a decoder in GGUF: under the names of config.json's world, and as numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ....errors import ModelError, shortened
from ...native import numbers
from ...native.codes import Codes, Form
from ...native.linear import converted, room
from ...native.numbers import Kind
from ...native.parts import Attention
from ...native.threads import usual_threads
from ..stored_tensors import StoredTensor, in_parts
from . import repack
from .config import ModelConfig
from .container import Tensor
from .dequantize import dequantized, is_known, unsupported

KINDS: dict[str, Kind] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Of numbers, by the types that have them as they are."""
_AT_ONCE = 1 << 16  # numbers that a thread converts at once, so that they stay in its cache

_OTHERS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_OF_A_LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
_OF_A_FAMILY = {
    "phi3": {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    "gemma3_text": {
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    "lfm2": {
        "attn_norm": "operator_norm", "ffn_norm": "ffn_norm", "attn_output": "self_attn.out_proj",
        "attn_q_norm": "self_attn.q_layernorm", "attn_k_norm": "self_attn.k_layernorm",
        "ffn_gate": "feed_forward.w1", "ffn_up": "feed_forward.w3", "ffn_down": "feed_forward.w2",
        "shortconv.in_proj": "conv.in_proj", "shortconv.conv": "conv.conv",
        "shortconv.out_proj": "conv.out_proj",
    },
}  # fmt: skip
_OTHERS_OF_A_FAMILY = {
    "lfm2": dict.fromkeys(("token_embd_norm", "output_norm"), "model.embedding_norm")
}
_LAYER = re.compile(r"blk\.(0|[1-9]\d{0,5})\.(\w+(?:\.\w+)?)\.(weight|bias)")
_IGNORED = re.compile(r"rope_freqs\.weight|(blk\.\d+\.)?attn_rot_embd\.(weight|inv_freq)")
"""Of the positions, which the config has."""


@dataclass(frozen=True)
class GgufTensor(StoredTensor):
    """A tensor of a decoder.

    Attributes:
        heads: of how many its rows are to be put in another order; 0 for none.
    """

    stored: Tensor
    heads: int = 0

    @property
    def kind(self) -> Kind | None:
        return KINDS.get(self.stored.type.name)

    @property
    def type_name(self) -> str:
        return self.stored.type.name

    @property
    def form(self) -> Form | None:
        return repack.FORMS.get(self.stored.type.name) if len(self.shape) == 2 else None

    def stays(self, kind: Kind) -> bool:
        width = numbers.dtype(kind).itemsize
        return self.kind == kind and not self.heads and self.begin % width == 0

    def numbers(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        return weights_of(self, raw, kind)

    def float32(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        """Norms are float32 in the file, whatever the others are."""
        return weights_of(self, raw, "float32")

    def has_exact_codes(self, raw: np.ndarray) -> bool:
        return self.form is not None and repack.is_exact(self.stored.type, self._blocks(raw))

    def codes(self, raw: np.ndarray, rows: slice, room: np.ndarray) -> Codes:
        blocks = self._blocks(_in_order(self, raw))
        return repack.repacked(self.stored.type, blocks[rows], room)

    def kept_codes(self, rows: slice, room: np.ndarray) -> Codes:
        outputs = rows.stop - rows.start
        return repack.found(self.stored.type, outputs, self.shape[1], room)

    def _blocks(self, raw: np.ndarray) -> np.ndarray:
        """Its bytes as uint8 [outputs, blocks, bytes of a block]."""
        return raw.reshape(self.shape[0], -1, self.stored.type.size)


def tensors_of(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, GgufTensor]:
    """The tensors of a decoder by the names of the original model's.

    Raises:
        ModelError: there is one that such a decoder does not have, or of a type that is not known.
    """
    found: dict[str, GgufTensor] = {}
    heads = _swapped_heads(config)
    for name, tensor in tensors.items():
        if _IGNORED.fullmatch(name):
            continue
        own = _name(name, config.model_type)
        if own is None:
            raise ModelError(
                f"the GGUF file has a tensor that {config.model_type} does not have:"
                f" {shortened(name)!r}",
                hint="Take the original repository, with model.safetensors beside config.json.",
                code="unsupported_format",
            )
        if not is_known(tensor.type):
            raise unsupported(tensor.type)
        if ".conv.conv." in own and len(tensor.shape) == 2:  # the original has [hidden, 1, taps]
            tensor = tensor._replace(shape=(tensor.shape[0], 1, tensor.shape[1]))
        part = own.split(".")[-2]
        found[own] = GgufTensor(tensor, heads.get(part, 0))
    return found


def _swapped_heads(config: ModelConfig) -> dict[str, int]:
    """How many heads those linear layers have whose rows are to be put in another order."""
    attention = config.decoder.attention[0]
    if not config.swapped or not isinstance(attention, Attention):
        return {}
    return {"q_proj": attention.query_heads, "k_proj": attention.key_heads}


def _name(name: str, model_type: str) -> str | None:
    """What the original model calls a tensor; None where it has no such."""
    found = _LAYER.fullmatch(name)
    if found is None:
        part, _, end = name.rpartition(".")
        own = (_OTHERS | _OTHERS_OF_A_FAMILY.get(model_type, {})).get(part)
        return f"{own}.{end}" if own is not None and end == "weight" else None
    number, part, end = found.groups()
    own = (_OF_A_LAYER | _OF_A_FAMILY.get(model_type, {})).get(part)
    return None if own is None else f"model.layers.{int(number)}.{own}.{end}"


def weights_of(tensor: GgufTensor, raw: np.ndarray, kind: Kind) -> np.ndarray:
    """A tensor's numbers as a runtime has them: where they are, or made of what is there.

    Args:
        raw: its bytes, uint8 [size].

    Returns:
        An array of `numbers.dtype` of the kind, of the tensor's shape.
    """
    if tensor.kind is not None:
        dtype = numbers.dtype(tensor.kind)
        own = _in_order(tensor, raw)
        if tensor.begin % dtype.itemsize:
            own = own.copy()  # to where numbers may begin
        stored = own.view(dtype).reshape(tensor.shape)
        if kind == tensor.kind:
            return stored
        return converted(stored, tensor.kind, kind, usual_threads())
    type = tensor.stored.type
    blocks = _in_order(tensor, raw).reshape(-1, type.size)
    found = room(tensor.elements, kind)
    step = max(1, _AT_ONCE // type.block)

    def convert(start: int) -> None:
        with np.errstate(all="ignore"):  # a damaged file may have scales that are infinite
            wide = dequantized(type, blocks[start : start + step]).reshape(-1)
            first = start * type.block
            found[first : first + len(wide)] = numbers.converted(wide, "float32", kind)

    in_parts(convert, range(0, len(blocks), step))
    return found.reshape(tensor.shape)


def _in_order(tensor: GgufTensor, raw: np.ndarray) -> np.ndarray:
    """The bytes of a tensor, its rows in the order of the original model.

    There the two halves of a head turn together. In the file, where neighbours do, rows take
    turns.
    """
    if not tensor.heads:
        return raw
    rows = raw.reshape(tensor.heads, tensor.shape[0] // tensor.heads // 2, 2, -1)
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(-1)
