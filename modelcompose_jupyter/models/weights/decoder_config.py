"""The config.json of decoders that run in C: the Llama kind, read without transformers.

Each family says how its file is to be read where it leaves something out, as transformers' class
for it does. What is not known here is `Other`: transformers reads it then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..native import numbers
from ..native.decoder import Rotations
from ..native.numbers import Kind

_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_SLIDING = "sliding_attention"
_USUAL = "default"


class Other(Exception):
    """A decoder is not of those that are known here; says why."""


@dataclass(frozen=True)
class Rotation:
    """Rotary positions.

    Attributes:
        frequencies: radians for a position, float32 [rotary size / 2].
    """

    frequencies: np.ndarray

    def table(self, positions: int, kind: Kind) -> Rotations:
        """Cosines and sines as a model of this kind of numbers rounds them."""
        angles = np.arange(positions, dtype=np.float32)[:, None] * self.frequencies
        wide = angles.astype(np.float64)
        cosines, sines = np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32)
        return numbers.rounded(cosines, kind), numbers.rounded(sines, kind)


@dataclass(frozen=True)
class DecoderConfig:
    """What a decoder is, by its config.json.

    Attributes:
        class_name: that of its class in transformers.
        context: most positions.
        windows: how many tokens each layer sees, itself included; 0 is all.
        rotations: by their names; ``layer_rotations`` has one for each layer, None for none.
        biases: of which linear layers, by the ends of their names.
        fused: whether projections of the same input are one tensor.
        norms_around: whether what a layer adds is normalised, too.
        norm_offset: what counts as 0 in the weights of norms.
        special_tokens: its bos, eos and pad tokens, by their keys.
    """

    class_name: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    query_heads: int
    key_heads: int
    head_size: int
    context: int
    activation: str
    epsilon: float
    tied: bool
    scaling: float
    windows: Sequence[int]
    rotations: Mapping[str, Rotation]
    layer_rotations: Sequence[str | None]
    special_tokens: Mapping[str, Any]
    biases: frozenset[str] = frozenset()
    fused: bool = False
    query_norms: bool = False
    norms_around: bool = False
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    precision: str | None = None


def read(content: Any) -> DecoderConfig:
    """The config of a decoder by what config.json says.

    Raises:
        Other: it is not known here, or damaged.
    """
    if not isinstance(content, dict):
        raise Other("its config.json is no mapping")
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise Other(f"the architecture {kind} has no kernels")
    for name in content:
        if name in _OF_OTHERS or name.startswith(("to_", "from_", "get_")):
            raise Other(f"its config.json has {name}")
    family = _FAMILIES[kind]
    if content.get("architectures") not in ([family.class_name], None):
        raise Other("it is of another class")
    try:
        return _Reader(content, family).config()
    except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError) as error:
        raise Other(f"its config.json is not as usual: {error!r}") from None


@dataclass(frozen=True)
class _Family:
    """Where a family differs from the others, and what its file leaves out."""

    class_name: str
    special_tokens: tuple[int | None, int | None, int | None]
    tied: bool = False
    theta: float = 10_000.0
    activation_key: str = "hidden_act"
    biases: Callable[[Mapping[str, Any]], frozenset[str]] = lambda _: frozenset()
    windows: Callable[[_Reader], list[int]] = lambda reader: [0] * reader.layers
    needs: tuple[str, ...] = ()
    fused: bool = False
    query_norms: bool = False
    gemma: bool = False


_QKV = frozenset({"q_proj", "k_proj", "v_proj"})
_ATTENTION = _QKV | {"o_proj"}
_MLP = frozenset({"gate_proj", "up_proj", "down_proj"})


def _biases(content: Mapping[str, Any]) -> frozenset[str]:
    """By its switches."""
    attention = _ATTENTION if content.get("attention_bias") else frozenset()
    return attention | (_MLP if content.get("mlp_bias") else frozenset())


def _window_everywhere(usual: int | None) -> Callable[[_Reader], list[int]]:
    def windows(reader: _Reader) -> list[int]:
        window = reader.content.get("sliding_window", usual)
        return [int(window or 0)] * reader.layers

    return windows


def _windows_by_switch(reader: _Reader) -> list[int]:
    """Of Qwen: from some layer on, if they are switched on at all."""
    content = reader.content
    window = content.get("sliding_window", 4096) if content.get("use_sliding_window") else None
    first = content.get("max_window_layers", 28)
    slides = [window is not None and layer >= first for layer in range(reader.layers)]
    return reader.windows_where(slides, window)


def _windows_without_positions(reader: _Reader) -> list[int]:
    """Of SmolLM3: in layers without positions, if they are switched on at all."""
    content = reader.content
    window = content.get("sliding_window") if content.get("use_sliding_window") else None
    slides = [window is not None and not turns for turns in reader.turning_layers()]
    return reader.windows_where(slides, content.get("sliding_window"))


def _windows_by_pattern(reader: _Reader) -> list[int]:
    """Of Gemma: all layers but each sixth."""
    pattern = reader.content.get("sliding_window_pattern", 6)
    slides = [bool((layer + 1) % pattern) for layer in range(reader.layers)]
    return reader.windows_where(slides, reader.content.get("sliding_window", 4096))


_FAMILIES = {
    "llama": _Family("LlamaForCausalLM", (1, 2, None), biases=_biases),
    "mistral": _Family("MistralForCausalLM", (1, 2, None), windows=_window_everywhere(4096)),
    "qwen2": _Family(
        "Qwen2ForCausalLM",
        (None, None, None),
        biases=lambda _: _QKV,
        windows=_windows_by_switch,
    ),
    "qwen3": _Family(
        "Qwen3ForCausalLM",
        (None, None, None),
        biases=lambda content: _ATTENTION if content.get("attention_bias") else frozenset(),
        windows=_windows_by_switch,
        needs=("head_dim",),
        query_norms=True,
    ),
    "smollm3": _Family(
        "SmolLM3ForCausalLM",
        (128_000, 128_001, 128_004),
        tied=True,
        theta=2_000_000.0,
        biases=_biases,
        windows=_windows_without_positions,
    ),
    "phi3": _Family(
        "Phi3ForCausalLM",
        (1, 32_000, 32_000),
        windows=_window_everywhere(None),
        fused=True,
    ),
    "gemma3_text": _Family(
        "Gemma3ForCausalLM",
        (2, 1, 0),
        tied=True,
        activation_key="hidden_activation",
        biases=lambda content: _ATTENTION if content.get("attention_bias") else frozenset(),
        windows=_windows_by_pattern,
        needs=("head_dim", "query_pre_attn_scalar", "hidden_activation", "num_key_value_heads"),
        query_norms=True,
        gemma=True,
    ),
}  # fmt: skip


@dataclass
class _Reader:
    content: Mapping[str, Any]
    family: _Family
    layers: int = field(init=False)

    def __post_init__(self) -> None:
        for name in (*_NEEDED, *self.family.needs):
            if self.content.get(name) is None:
                raise Other(f"its config.json has no {name}")
        self.layers = self._size("num_hidden_layers")

    def config(self) -> DecoderConfig:
        content, family = self.content, self.family
        for name, nothing in _NOT_KNOWN.items():
            if content.get(name) not in nothing:
                raise Other(f"its config.json asks for {name}")
        activation = content.get(family.activation_key, "silu")
        if activation not in _ACTIVATIONS:
            raise Other("its activation is another one")
        heads = self._size("num_attention_heads")
        hidden, intermediate = self._size("hidden_size"), self._size("intermediate_size")
        head_size = int(content.get("head_dim") or hidden // heads)
        key_heads = int(content.get("num_key_value_heads") or heads)
        if hidden % 2 or intermediate % 2 or head_size % 2 or heads % key_heads:
            raise Other("its sizes are odd")
        scaling = head_size**-0.5
        if family.gemma:
            scaling = float(content["query_pre_attn_scalar"]) ** -0.5
        self._check_lists()
        windows = family.windows(self)
        rotations, layer_rotations = self._rotations(head_size, windows)
        bos, eos, pad = family.special_tokens
        usual = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
        special = {name: content.get(name, value) for name, value in usual.items()}
        if not all(map(_are_tokens, special.values())):
            raise Other("its special tokens are none")
        return DecoderConfig(
            class_name=family.class_name,
            vocabulary=self._size("vocab_size"),
            hidden=hidden,
            intermediate=intermediate,
            layers=self.layers,
            query_heads=heads,
            key_heads=key_heads,
            head_size=head_size,
            context=self._size("max_position_embeddings"),
            activation=_ACTIVATIONS[activation],
            epsilon=float(content["rms_norm_eps"]),
            tied=bool(content.get("tie_word_embeddings", family.tied)),
            scaling=scaling,
            windows=windows,
            rotations=rotations,
            layer_rotations=layer_rotations,
            special_tokens=special,
            biases=family.biases(content),
            fused=family.fused,
            query_norms=family.query_norms,
            norms_around=family.gemma,
            norm_offset=1.0 if family.gemma else 0.0,
            embedding_scale=hidden**0.5 if family.gemma else 1.0,
            precision=content.get("dtype") or content.get("torch_dtype"),
        )

    def _size(self, name: str) -> int:
        value = self.content[name]
        if type(value) is not int or value < 1:
            raise Other(f"its {name} is no size")
        return value

    def _check_lists(self) -> None:
        """Of what every config may have, and transformers looks at."""
        types, labels = self.content.get("layer_types"), self.content.get("id2label")
        if types is not None and not (isinstance(types, list) and len(types) == self.layers):
            raise Other("its layer_types are not one for each layer")
        if labels is not None and not all(each.isdecimal() for each in labels):
            raise Other("its id2label has other keys than numbers")

    def windows_where(self, slides: Sequence[bool], window: int | None) -> list[int]:
        """A window for each layer that slides, as ``layer_types`` says or, without, as given."""
        types = self.content.get("layer_types")
        if types is not None:
            slides = [each == _SLIDING for each in types]
        return [int(window or 0) if slide else 0 for slide in slides]

    def turning_layers(self) -> list[bool]:
        """Which layers have positions."""
        if self.family.class_name != "SmolLM3ForCausalLM":
            return [True] * self.layers
        given = self.content.get("no_rope_layers")
        if given is not None:
            if len(given) != self.layers:
                raise Other("its no_rope_layers are not one for each layer")
            return [bool(each) for each in given]
        interval = self.content.get("no_rope_layer_interval", 4)
        return [(layer + 1) % interval != 0 for layer in range(self.layers)]

    def _rotations(
        self, head_size: int, windows: Sequence[int]
    ) -> tuple[dict[str, Rotation], list[str | None]]:
        content = self.content
        given = content.get("rope_scaling") or content.get("rope_parameters") or {}
        if self.family.gemma:
            return self._rotations_by_type(head_size, windows)
        rotation = self._rotation(given, head_size, content.get("rope_theta", self.family.theta))
        names = [_USUAL if turns else None for turns in self.turning_layers()]
        return {_USUAL: rotation}, names

    def _rotations_by_type(
        self, head_size: int, windows: Sequence[int]
    ) -> tuple[dict[str, Rotation], list[str | None]]:
        """Of Gemma: another one in layers with a window."""
        content = self.content
        given = content.get("rope_parameters") or {}
        whole = {**(given.get("full_attention") or {}), **(content.get("rope_scaling") or {})}
        sliding = given.get(_SLIDING) or {}
        theta, local = content.get("rope_theta", 1e6), content.get("rope_local_base_freq", 1e4)
        rotations = {
            "full_attention": self._rotation(whole, head_size, theta),
            _SLIDING: self._rotation(sliding, head_size, local),
        }
        return rotations, [_SLIDING if window else "full_attention" for window in windows]

    def _rotation(self, given: Mapping[str, Any], head_size: int, theta: float) -> Rotation:
        kind = given.get("rope_type", given.get("type", "default"))
        base = float(given.get("rope_theta") or theta)
        part = given.get("partial_rotary_factor", self.content.get("partial_rotary_factor", 1.0))
        if part not in (None, 1, 1.0) and not self.family.fused:
            raise Other("a part of each head has positions")
        size = int(head_size * (part or 1.0))
        places = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
        powers = np.power(base, places.astype(np.float64)).astype(np.float32)
        frequencies = np.float32(1) / powers
        if kind == "linear":
            frequencies = frequencies / np.float32(given["factor"])
        elif kind == "llama3":
            original = given.get("original_max_position_embeddings")
            frequencies = _slowed(
                frequencies, given, original or self.content["max_position_embeddings"]
            )
        elif kind != "default":
            raise Other(f"its positions are of another kind ({kind})")
        if self.family.fused and kind != "default":
            raise Other(f"its positions are of another kind ({kind})")
        return Rotation(frequencies)


def _are_tokens(value: Any) -> bool:
    """Whether this is a token, several, or none."""
    tokens = value if isinstance(value, list) else [value]
    return value is None or all(type(each) is int for each in tokens)


def _slowed(frequencies: np.ndarray, given: Mapping[str, Any], original: float) -> np.ndarray:
    """Of Llama 3.1: long waves are made longer, and short ones are not.

    Args:
        original: the context that the model was trained with first.
    """
    factor = float(given["factor"])
    low, high = float(given["low_freq_factor"]), float(given["high_freq_factor"])
    lengths = np.float32(2 * math.pi) / frequencies
    share = (np.float32(original) / lengths - np.float32(low)) / np.float32(high - low)
    mixed = (1 - share) * frequencies / np.float32(factor) + share * frequencies
    slow = np.where(lengths > original / low, frequencies / np.float32(factor), frequencies)
    between = (lengths <= original / low) & (lengths >= original / high)
    return np.where(between, mixed, slow).astype(np.float32)


_NEEDED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip
_OF_OTHERS = {
    "quantization_config", "quantization", "compression_config", "text_config", "vision_config",
    "audio_config", "decoder", "encoder", "attn_implementation", "_attn_implementation",
}  # fmt: skip
"""Keys that only transformers knows what to do with."""
_NOT_KNOWN: dict[str, tuple[Any, ...]] = {
    "final_logit_softcapping": (None,),
    "attn_logit_softcapping": (None,),
    "use_bidirectional_attention": (None, False),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "auto_map": (None, {}),
}
