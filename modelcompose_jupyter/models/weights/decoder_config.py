"""The config.json of decoders that run in C, read without transformers.

What is not known here is `Other`: transformers reads it then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..native.parts import Activation, Attention, Heads, NormKind, QKVHeads, RecurrentHeads, Rotary
from . import tensor_names
from .config_reader import ConfigReader, Other, Rotation
from .decoder_families import FAMILIES, Family
from .tensor_names import TensorNames

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "relu": "relu",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
}  # fmt: skip
_OF_GROUPED = ("num_key_value_heads", "head_dim")


@dataclass(frozen=True)
class DecoderConfig:
    """What a decoder is, by its config.json.

    Attributes:
        class_name: that of its class in transformers.
        context: most positions.
        attention: heads of each layer, or of its recurrence; None where it has a convolution.
        inner: sizes of the MLP in each layer.
        scalings: what each layer multiplies products of queries and keys by.
        windows: how many tokens each layer sees, itself included; 0 is all.
        rotations: by their names; ``layer_rotations`` has one for each layer, None for none.
        special_tokens: its bos, eos and pad tokens, by their keys.
        names: of its tensors, which say where norms are, too.
        biases: of which linear layers, by the ends of their names.
        transposed: whether files have weights of layers as [inputs, outputs].
        gated: whether the MLP has a gate.
        norm_offset: what is added to the weights of norms.
        rounds_embedding_scale: whether that is rounded as the model's numbers are.
        taps: how many tokens a convolution sees.
        normalises_values: whether values of a head are divided by their root mean square.
        layer_input: how many numbers each layer gets of a token by itself; of so many tokens as
            ``input_vocabulary``.
        whole_query_norms: whether norms of queries and keys are of all heads together.

    The others are those of `Parts` and `Layer`.
    """

    class_name: str
    vocabulary: int
    hidden: int
    layers: int
    context: int
    activation: Activation
    epsilon: float
    tied: bool
    attention: Sequence[Attention | RecurrentHeads | None]
    inner: Sequence[int]
    scalings: Sequence[float]
    windows: Sequence[int]
    rotations: Mapping[str, Rotation]
    layer_rotations: Sequence[str | None]
    special_tokens: Mapping[str, Any]
    names: TensorNames = tensor_names.LLAMA
    biases: frozenset[str] = frozenset()
    transposed: bool = False
    gated: bool = True
    norm_kind: NormKind = "rms"
    norm_offset: float = 0.0
    whole_query_norms: bool = False
    heads: QKVHeads | None = None
    gates: Heads | None = None
    taps: int = 0
    normalises_values: bool = False
    layer_input: int = 0
    input_vocabulary: int = 0
    rotary: Rotary = "halves"
    parallel: bool = False
    embedding_scale: float = 1.0
    rounds_embedding_scale: bool = False
    residual_scale: float = 1.0
    score_scale: float = 1.0
    attention_cap: float = 0.0
    score_cap: float = 0.0
    precision: str | None = None

    @property
    def table_name(self) -> str:
        """The tensor of the embedding."""
        return f"{self.names.prefix}{self.names.embedding}.weight"

    @property
    def input_table_name(self) -> str:
        """The tensor of what layers get of each token."""
        return f"{self.names.prefix}{self.names.input_table}.weight"


def read(content: Any) -> DecoderConfig:
    """The config of a decoder by what config.json says.

    Raises:
        Other: it is not known here, or damaged.
    """
    if not isinstance(content, dict):
        raise Other("its config.json is no mapping")
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise Other(f"the architecture {kind} has no kernels")
    family = FAMILIES[kind]
    if content.get("architectures") not in ([family.architecture or family.class_name], None):
        raise Other("it is of another class")
    if family.text is not None:
        content = _text_of(content, family)
    for name in content:
        if name in _OF_OTHERS or name.startswith(("to_", "from_", "get_")):
            raise Other(f"its config.json has {name}")
    try:
        return _read(family.canonical(content), family)
    except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError) as error:
        raise Other(f"its config.json is not as usual: {error!r}") from None


def _text_of(content: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """The part of a config.json of images, sound and text that is about text."""
    text = content.get("text_config")
    if not isinstance(text, dict) or text.get("model_type", family.text) != family.text:
        raise Other("its text_config is of another kind")
    others = {name: content[name] for name in content if name in _OF_OTHERS - _OF_TOWERS}
    whole = {name: content[name] for name in _OF_ALL if content.get(name) is not None}
    if family.architecture is not None:  # of which transformers takes the part alone
        return {**whole, **text, **others}
    return {**text, **others, **whole}


def _read(content: Mapping[str, Any], family: Family) -> DecoderConfig:
    """The config of a decoder by the keys of Llama's."""
    for name in (*_NEEDED, *family.needs):
        if content.get(name) is None:
            raise Other(f"its config.json has no {name}")
    for name, nothing in _NOT_KNOWN.items():
        if content.get(name) not in nothing and name not in family.knows:
            raise Other(f"its config.json asks for {name}")
    activation = content.get("hidden_act", "silu")
    if activation not in _ACTIVATIONS:
        raise Other("its activation is another one")
    reader = ConfigReader(content, family.theta)
    heads, hidden = reader.size("num_attention_heads"), reader.size("hidden_size")
    head_size, key_heads = hidden // heads, heads
    if family.grouped:
        head_size = int(content.get("head_dim") or head_size)
        key_heads = int(content.get("num_key_value_heads") or heads)
    elif hidden % heads or any(content.get(name) is not None for name in _OF_GROUPED):
        raise Other("its heads are of other sizes")
    inner = family.inner(reader)
    if any(each % 2 for each in (hidden, head_size, *inner)) or heads % key_heads:
        raise Other("its sizes are odd")
    windows = family.windows(reader)
    rotations, layer_rotations = family.rotations(reader, head_size, windows)
    bos, eos, pad = family.special_tokens
    usual = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
    special = {name: content.get(name, value) for name, value in usual.items()}
    if not all(map(_are_tokens, special.values())):
        raise Other("its special tokens are none")
    config = DecoderConfig(
        class_name=family.class_name,
        vocabulary=reader.size("vocab_size"),
        hidden=hidden,
        layers=reader.layers,
        context=reader.size("max_position_embeddings"),
        activation=_ACTIVATIONS[activation],
        epsilon=float(content["rms_norm_eps"]),
        tied=bool(content.get("tie_word_embeddings", family.tied)),
        attention=[Attention(heads, key_heads, head_size)] * reader.layers,
        inner=inner,
        scalings=[head_size**-0.5] * reader.layers,
        windows=windows,
        rotations=rotations,
        layer_rotations=layer_rotations,
        special_tokens=special,
        names=family.names,
        biases=family.biases(content),
        precision=content.get("dtype") or content.get("torch_dtype"),
    )
    return replace(config, **family.own(reader, head_size))


def _are_tokens(value: Any) -> bool:
    """Whether this is a token, several, or none."""
    tokens = value if isinstance(value, list) else [value]
    return value is None or all(type(each) is int for each in tokens)


_NEEDED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip
_OF_OTHERS = {
    "quantization_config", "quantization", "compression_config", "text_config", "vision_config",
    "audio_config", "decoder", "encoder", "attn_implementation", "_attn_implementation",
}  # fmt: skip
"""Keys that only transformers knows what to do with."""
_OF_TOWERS = {"text_config", "vision_config", "audio_config"}
_OF_ALL = ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "dtype",
           "torch_dtype")  # fmt: skip
"""What is said of a model of images, sound and text as a whole."""
_NOT_KNOWN: dict[str, tuple[Any, ...]] = {
    "final_logit_softcapping": (None,),
    "attn_logit_softcapping": (None,),
    "use_bidirectional_attention": (None, False),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "reorder_and_upcast_attn": (None, False),
}
