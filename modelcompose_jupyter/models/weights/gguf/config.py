"""A GGUF file's metadata as the config of a decoder.

It is translated to what the same model's config.json says, which `decoder_config` reads: so that
there is one place which knows the families. Numbers are held against the tensors first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ....errors import ModelError, did_you_mean, shortened
from .. import decoder_config
from ..config_reader import Other, Rotation
from ..decoder_config import DecoderConfig
from ..file_bounds import BrokenFile
from .container import Tensor, Value

ARCHITECTURES = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "smollm3": "smollm3", "phi3": "phi3",
    "gemma3": "gemma3_text", "lfm2": "lfm2",
}  # fmt: skip
"""Those that run, by their names in GGUF; and their ``model_type`` in config.json. Mistral's models
are llama in GGUF."""
_KEY_HEADS = "attention.head_count_kv"
_EMBEDDING = "token_embd.weight"
_FACTORS = "rope_freqs.weight"
_MOST_POSITIONS = 1 << 30
_LONGEST_WINDOW = 1 << 31
_GEMMA_27B_LAYERS = 62
_CHANGES = (
    "expert_count", "attn_logit_softcapping", "final_logit_softcapping", "logit_scale",
    "residual_scale", "embedding_scale", "attention.scale", "attention.clamp_kqv",
    "attention.max_alibi_bias", "attention.temperature_scale", "attention.shared_kv_layers",
)  # fmt: skip
"""Keys of what these families do not do; nothing but 0 is none of it."""


@dataclass(frozen=True)
class ModelConfig:
    """What a decoder in GGUF is.

    Attributes:
        model_type: as its config.json would say.
        swapped: whether rows of queries and keys that turn together are neighbours.
    """

    model_type: str
    decoder: DecoderConfig
    swapped: bool


def read(
    metadata: Mapping[str, Value],
    tensors: Mapping[str, Tensor],
    numbers_of: Callable[[Tensor], np.ndarray],
) -> ModelConfig:
    """The config of a decoder.

    Args:
        tensors: by their names in the file.
        numbers_of: reads one of them as float32, as flat as it is.

    Raises:
        BrokenFile: a number is none, or cannot be that of these tensors.
        ModelError: what the file asks for is not known here.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise BrokenFile("it has no general.architecture")
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise _not_a_model(str(kind))
    if architecture not in ARCHITECTURES:
        raise _unknown(architecture)
    found = _Metadata(metadata, architecture, tensors)
    for name in _CHANGES:
        if not found.is_nothing(name):
            raise _unsupported(f"it asks for {architecture}.{name}")
    content = found.config_json(ARCHITECTURES[architecture])
    try:
        decoder = decoder_config.read(content)
    except Other as other:
        reason = str(other).replace("config.json", "metadata")
        raise _unsupported(reason) from None
    decoder = replace(
        decoder,
        biases=_biases(tensors, architecture),
        norm_offset=0.0,  # what Gemma's norms add is in the file already
        tied="output.weight" not in tensors,
    )
    if _FACTORS in tensors:
        decoder = _slowed(decoder, content, numbers_of(tensors[_FACTORS]))
    swapped = architecture in ("llama", "smollm3")
    return ModelConfig(content["model_type"], decoder, swapped)


def _not_a_model(kind: str) -> ModelError:
    return ModelError(
        f"the GGUF file is no model: it says that it is of the type {shortened(kind)!r}",
        hint="Name the file of the model. Adapters are read as peft writes them, in folders.",
        code="not_a_model",
    )


def _unknown(architecture: str) -> ModelError:
    known = ", ".join(ARCHITECTURES)
    return ModelError(
        f"GGUF files of the architecture {shortened(architecture)!r} do not run here",
        hint=did_you_mean(architecture, ARCHITECTURES)
        or f"These run: {known}. Others run from safetensors: name the original repository.",
        code="unsupported_format",
    )


def _unsupported(reason: str) -> ModelError:
    return ModelError(
        f"the GGUF file cannot be run: {reason}",
        hint="Take the original repository, with model.safetensors beside config.json.",
        code="unsupported_format",
    )


def _biases(tensors: Mapping[str, Tensor], architecture: str) -> frozenset[str]:
    """Which linear layers have a bias; the first layer stands for all."""
    names = {
        "attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "o_proj",
        "attn_qkv": "qkv_proj", "ffn_gate": "gate_proj", "ffn_down": "down_proj",
        "ffn_up": "gate_up_proj" if architecture == "phi3" else "up_proj",
    }  # fmt: skip
    return frozenset(own for name, own in names.items() if f"blk.0.{name}.bias" in tensors)


class _Metadata:
    """The keys of an architecture."""

    def __init__(
        self, metadata: Mapping[str, Value], architecture: str, tensors: Mapping[str, Tensor]
    ) -> None:
        self._metadata = metadata
        self._architecture = architecture
        self._tensors = tensors

    def is_nothing(self, name: str) -> bool:
        """Whether a key is not there, or asks for nothing."""
        value = self._metadata.get(f"{self._architecture}.{name}")
        return value is None or (isinstance(value, int | float) and value == 0)

    def config_json(self, model_type: str) -> dict[str, Any]:
        """The same as config.json has it."""
        shape = self._tensors[_EMBEDDING].shape if _EMBEDDING in self._tensors else ()
        if len(shape) != 2:
            raise BrokenFile(f"it has no {_EMBEDDING}")
        hidden, heads = self._size("embedding_length", shape[1]), self._size("attention.head_count")
        if hidden != shape[1]:
            raise BrokenFile("its embedding_length is not that of its tensors")
        head_size = self._size("attention.key_length", usual=max(1, hidden // heads))
        layers = self._size("block_count", len(self._tensors))
        content: dict[str, Any] = {
            "model_type": model_type,
            "vocab_size": shape[0],
            "hidden_size": hidden,
            "intermediate_size": self._size("feed_forward_length"),
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": self._size(_KEY_HEADS, usual=heads, holes=model_type == "lfm2"),
            "head_dim": head_size,
            "max_position_embeddings": self._size("context_length", _MOST_POSITIONS),
            "rms_norm_eps": self._number("attention.layer_norm_rms_epsilon"),
        }
        if self._size("attention.value_length", usual=head_size) != head_size:
            raise _unsupported("its keys and values differ in length")
        theta = self._number("rope.freq_base", usual=None)
        if theta is not None:
            content["rope_theta"] = theta
        self._add_window(content)
        self._add_rotation(content, head_size)
        if model_type == "gemma3_text":
            self._add_gemma(content)
        if model_type == "lfm2":
            self._add_convolutions(content)
        return content

    def _add_window(self, content: dict[str, Any]) -> None:
        window = self._size("attention.sliding_window", _LONGEST_WINDOW - 1, usual=0, least=0)
        content["sliding_window"] = window or None

    def _add_rotation(self, content: dict[str, Any], head_size: int) -> None:
        size = self._size("rope.dimension_count", head_size, usual=head_size)
        if size != head_size:
            content["partial_rotary_factor"] = size / head_size
        kind = self._metadata.get(f"{self._architecture}.rope.scaling.type", "none")
        if not isinstance(kind, str):
            raise BrokenFile("its rope.scaling.type is no text")
        if kind not in ("none", "linear"):
            raise _unsupported(f"its positions are of another kind ({shortened(kind)!r})")
        if kind == "linear":
            factor = self._number("rope.scaling.factor", usual=1.0)
            content["rope_scaling"] = {"rope_type": kind, "factor": factor}
        if {"rope_factors_long.weight", "rope_factors_short.weight"} & self._tensors.keys():
            raise _unsupported("its positions are of another kind (longrope)")

    def _add_convolutions(self, content: dict[str, Any]) -> None:
        """Of LFM2: a layer without heads of keys has a convolution."""
        layers = content["num_hidden_layers"]
        counts = self._metadata.get(f"{self._architecture}.{_KEY_HEADS}")
        if isinstance(counts, np.ndarray):
            if len(counts) != layers:
                raise BrokenFile(f"its {_KEY_HEADS} are not one for each layer")
            content["layer_types"] = ["full_attention" if each else "conv" for each in counts]
        content |= {
            "norm_eps": content.pop("rms_norm_eps"),
            "conv_L_cache": self._size("shortconv.l_cache"),
            "block_auto_adjust_ff_dim": False,
        }

    def _add_gemma(self, content: dict[str, Any]) -> None:
        """What is the same in all files of Gemma 3, and not said in them."""
        layers, heads = content["num_hidden_layers"], content["num_attention_heads"]
        scale = content["head_dim"]
        if layers == _GEMMA_27B_LAYERS:  # the one whose heads are scaled by another number
            scale = content["hidden_size"] / heads
        content |= {
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": scale,
            "rope_local_base_freq": self._number("rope.freq_base_swa", usual=10_000.0),
        }
        pattern = self._metadata.get(f"{self._architecture}.attention.sliding_window_pattern", 6)
        if isinstance(pattern, np.ndarray) and pattern.dtype == bool and len(pattern) == layers:
            kinds = ("full_attention", "sliding_attention")
            content["layer_types"] = [kinds[int(slides)] for slides in pattern]
        elif type(pattern) is int and pattern >= 1:
            content["sliding_window_pattern"] = pattern
        else:
            raise BrokenFile("its attention.sliding_window_pattern is none")
        if content["sliding_window"] is None:
            content["layer_types"] = ["full_attention"] * layers

    def _size(
        self,
        name: str,
        most: int | None = None,
        *,
        usual: int | None = None,
        least: int = 1,
        holes: bool = False,
    ) -> int:
        """A whole number of the file; a list of them stands for its layers and must be equal.

        Args:
            most: where it is None, as many as the largest tensor has numbers in a dimension.
            usual: where the file does not say; None where it must.
            holes: whether a list may have zeros, for layers that have no such.
        """
        value = self._metadata.get(f"{self._architecture}.{name}", usual)
        if holes and isinstance(value, np.ndarray):
            value = value[value != 0]
        if isinstance(value, np.ndarray) and len(value) and (value == value[0]).all():
            value = value[0].item()
        elif isinstance(value, np.ndarray):
            raise _unsupported(f"its {name} differs from layer to layer")
        if most is None:
            most = max(max(each.shape) for each in self._tensors.values())
        if type(value) is not int or not least <= value <= most:
            raise BrokenFile(f"its {name} is none, or not that of its tensors")
        return value

    def _number(self, name: str, usual: float | None = -1.0) -> Any:
        """A positive number as JSON would write it; the file has it as float32."""
        value = self._metadata.get(f"{self._architecture}.{name}", usual)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
            raise BrokenFile(f"its {name} is no positive number")
        return float(str(np.float32(value)))  # type: ignore[arg-type]


def _slowed(decoder: DecoderConfig, content: dict[str, Any], factors: np.ndarray) -> DecoderConfig:
    """With frequencies divided by factors, as Llama 3.1 has it.

    The file has rounded factors alone. Where they are those that Llama 3.1's rule gives, the rule
    itself is taken, so that positions are the same as those of the original to the last bit.
    """
    name, plain = next(iter(decoder.rotations.items()))
    if len(decoder.rotations) != 1 or factors.shape != plain.frequencies.shape:
        raise BrokenFile(f"its {_FACTORS} is not that of its heads")
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise BrokenFile(f"its {_FACTORS} has numbers that are no factors")
    rule = {
        "rope_type": "llama3", "factor": float(factors.max()), "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    by_rule = decoder_config.read({**content, "rope_scaling": rule}).rotations[name]
    slowed = Rotation((plain.frequencies / factors).astype(np.float32))
    if np.allclose(by_rule.frequencies, slowed.frequencies, rtol=1e-5, atol=0):
        slowed = by_rule
    return replace(decoder, rotations={name: slowed})
