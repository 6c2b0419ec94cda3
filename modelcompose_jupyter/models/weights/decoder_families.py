"""The families of decoders that run in C, and where each differs from Llama.

Each says how its config.json is to be read where it leaves something out, as transformers' class
for it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from ..native.parts import Attention, Heads, RecurrentHeads
from . import tensor_names
from .config_reader import ConfigReader, LayerRotations, Other, Rotation, frequencies
from .tensor_names import TensorNames

_GPT_KEYS = {
    "hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions", "intermediate_size": "n_inner",
    "hidden_act": "activation_function", "rms_norm_eps": "layer_norm_epsilon",
}  # fmt: skip
_MOST_TAPS = 1 << 10
_GEMMA_NEEDS = ("head_dim", "query_pre_attn_scalar", "hidden_act", "num_key_value_heads")
_SLIDING, _FULL, _LINEAR = "sliding_attention", "full_attention", "linear_attention"
_GPT_USUAL = {"hidden_act": "gelu_new", "rms_norm_eps": 1e-5}


def _inner_sizes(reader: ConfigReader) -> list[int]:
    return [reader.size("intermediate_size")] * reader.layers


def _no_windows(reader: ConfigReader) -> list[int]:
    return [0] * reader.layers


def _rotations(reader: ConfigReader, size: int, _: Sequence[int]) -> LayerRotations:
    return reader.rotations(size)


Own = Mapping[str, Any]
"""Fields of a `DecoderConfig` where a family has others than Llama."""


@dataclass(frozen=True)
class Family:
    """Where a family differs from the others, and what its file leaves out.

    Attributes:
        special_tokens: usual ones of bos, eos and pad.
        keys: what its config.json calls what others call by the names of Llama's.
        usual: values where config.json has none.
        needs: keys without which nothing is known.
        grouped: whether heads of keys, and the size of heads, are config.json's to say.
        inner: sizes of the MLP in each layer.
        text: the model type of the part that is about text, where a model has others, too.
        architecture: the class that its config.json names, where transformers makes another one of
            that part.
        knows: keys that ask for what the kernels can do, and this family does.
    """

    class_name: str
    special_tokens: tuple[int | None, int | None, int | None]
    names: TensorNames = tensor_names.LLAMA
    tied: bool = False
    theta: float = 10_000.0
    keys: Mapping[str, str] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    grouped: bool = True
    inner: Callable[[ConfigReader], list[int]] = _inner_sizes
    text: str | None = None
    architecture: str | None = None
    knows: frozenset[str] = frozenset()
    biases: Callable[[Mapping[str, Any]], frozenset[str]] = lambda _: frozenset()
    windows: Callable[[ConfigReader], list[int]] = _no_windows
    rotations: Callable[[ConfigReader, int, Sequence[int]], LayerRotations] = _rotations
    own: Callable[[ConfigReader, int], Own] = lambda _, __: {}

    def canonical(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """config.json by the keys of Llama's, with what is usual where it leaves out."""
        renamed = {own: name for name, own in self.keys.items()}
        for name, own in self.keys.items():
            if name in content and content[name] != content.get(own):
                raise Other(f"its config.json says {name} for {own}")
        return {**self.usual, **{renamed.get(name, name): content[name] for name in content}}


_QKV = frozenset({"q_proj", "k_proj", "v_proj"})
_ATTENTION = _QKV | {"o_proj"}
_GPTJ_BIASES = frozenset({"fc_in", "fc_out", "lm_head"})
_CONVOLUTION = frozenset({"conv.in_proj", "conv.conv", "conv.out_proj"})
_MLP = frozenset({"gate_proj", "up_proj", "down_proj"})


def _biases(content: Mapping[str, Any]) -> frozenset[str]:
    """By its switches."""
    return _attention_biases(content) | (_MLP if content.get("mlp_bias") else frozenset())


def _attention_biases(content: Mapping[str, Any]) -> frozenset[str]:
    """By its switch; the MLP has none."""
    return _ATTENTION if content.get("attention_bias") else frozenset()


def _lfm2_biases(content: Mapping[str, Any]) -> frozenset[str]:
    return _CONVOLUTION if content.get("conv_bias") else frozenset()


def _granite4_biases(content: Mapping[str, Any]) -> frozenset[str]:
    found = _attention_biases(content)
    if content.get("mamba_conv_bias", True):
        found |= {"mamba.conv1d"}
    return found | {"mamba.in_proj", "mamba.out_proj"} if content.get("mamba_proj_bias") else found


def _neox_biases(content: Mapping[str, Any]) -> frozenset[str]:
    attention = {"query_key_value", "dense"} if content.get("attention_bias", True) else set()
    return frozenset({"dense_h_to_4h", "dense_4h_to_h"} | attention)


# Sizes of the MLP


def _four_times(reader: ConfigReader) -> list[int]:
    """Of GPT-2: as said, else by the size of the hidden numbers."""
    if reader.content.get("intermediate_size") is not None:
        return _inner_sizes(reader)
    return [4 * reader.size("hidden_size")] * reader.layers


def _shared_inner_sizes(reader: ConfigReader) -> list[int]:
    """Of Granite 4: of the MLP that stands beside experts, where there are some."""
    return [reader.size("shared_intermediate_size")] * reader.layers


def _lfm2_inner_sizes(reader: ConfigReader) -> list[int]:
    """Of LFM2: two thirds of what it says, in whole blocks."""
    content = reader.content
    size = content.get("block_ff_dim", content["intermediate_size"])
    if content.get("block_auto_adjust_ff_dim", True):
        size = int(2 * size / 3)
        if (factor := content.get("block_ffn_dim_multiplier", 1.0)) is not None:
            block = content.get("block_multiple_of", 256)
            size = -(-int(factor * size) // block) * block
    if type(size) is not int or size < 1:
        raise Other("its MLP has no size")
    return [size] * reader.layers


def _gemma4_inner_sizes(reader: ConfigReader) -> list[int]:
    """Of Gemma 4: perhaps twice as wide where keys and values are another layer's."""
    wider = 2 if reader.content.get("use_double_wide_mlp") else 1
    inner, first = reader.size("intermediate_size"), _first_that_shares(reader)
    return [inner * (wider if layer >= first else 1) for layer in range(reader.layers)]


# Windows


def _window_everywhere(usual: int | None) -> Callable[[ConfigReader], list[int]]:
    def windows(reader: ConfigReader) -> list[int]:
        window = reader.content.get("sliding_window", usual)
        return [int(window or 0)] * reader.layers

    return windows


def _windows_by_switch(reader: ConfigReader) -> list[int]:
    """Of Qwen: from some layer on, if they are switched on at all."""
    content = reader.content
    window = content.get("sliding_window", 4096) if content.get("use_sliding_window") else None
    first = content.get("max_window_layers", 28)
    slides = [window is not None and layer >= first for layer in range(reader.layers)]
    return reader.windows_where(slides, window)


def _windows_without_positions(reader: ConfigReader) -> list[int]:
    """Of SmolLM3: in layers without positions, if they are switched on at all."""
    content = reader.content
    window = content.get("sliding_window") if content.get("use_sliding_window") else None
    slides = [window is not None and not turns for turns in _smollm3_turning(reader)]
    return reader.windows_where(slides, content.get("sliding_window"))


def _windows_but_each(usual: int, key: str = "") -> Callable[[ConfigReader], list[int]]:
    """In all layers but each so many-th; ``key`` has another number."""

    def windows(reader: ConfigReader) -> list[int]:
        slides = [True] * reader.layers
        if reader.content.get("layer_types") is None:
            pattern = reader.content.get(key, usual)
            slides = [bool((layer + 1) % pattern) for layer in range(reader.layers)]
        return reader.windows_where(slides, reader.content.get("sliding_window", 4096))

    return windows


def _windows_of_exaone(reader: ConfigReader) -> list[int]:
    """Of EXAONE 4: in all layers but each fourth, if there is a window at all."""
    content = reader.content
    if content.get("layer_types") is None and content.get("sliding_window", 4096) is None:
        raise Other("which layers have a window is not said")
    windows = _windows_but_each(4, "sliding_window_pattern")(reader)
    if content.get("sliding_window", 4096) is None and _SLIDING in content["layer_types"]:
        raise Other("its window has no length")
    return windows


def _windows_of_gemma4(reader: ConfigReader) -> list[int]:
    """Of Gemma 4: in all layers but each sixth; the last has none."""
    if reader.content.get("layer_types") is None:
        slides = [(layer + 1) % 6 != 0 for layer in range(reader.layers)]
    else:
        slides = [window != 0 for window in reader.windows_where([], 1)]
    slides[-1] = False
    return [reader.size("sliding_window") if slide else 0 for slide in slides]


def _windows_of_neo(reader: ConfigReader) -> list[int]:
    """Of GPT-Neo: in the layers that are local, as runs of layers are listed."""
    types = reader.content.get("attention_types") or [[["global", "local"], 12]]
    if sum(len(run) * count for run, count in types) != reader.layers:
        raise Other("its attention_types are not one for each layer")
    kinds = [kind for run, count in types for kind in run * count]
    if not {*kinds} <= {"global", "local"}:
        raise Other("its attention_types are others")
    if reader.content.get("attention_layers") not in (None, kinds):
        raise Other("its attention_layers are others than its attention_types")
    window = reader.content.get("window_size", 256)
    return [int(window) if kind == "local" else 0 for kind in kinds]


# Rotations


def _no_rotations(reader: ConfigReader, _: int, __: Sequence[int]) -> LayerRotations:
    return {}, [None] * reader.layers


def _smollm3_turning(reader: ConfigReader) -> list[bool]:
    """Which layers of SmolLM3 have positions."""
    given = reader.content.get("no_rope_layers")
    if given is not None:
        if len(given) != reader.layers:
            raise Other("its no_rope_layers are not one for each layer")
        return [bool(each) for each in given]
    interval = reader.content.get("no_rope_layer_interval", 4)
    return [(layer + 1) % interval != 0 for layer in range(reader.layers)]


def _smollm3_rotations(reader: ConfigReader, size: int, _: Sequence[int]) -> LayerRotations:
    found, names = reader.rotations(size)
    return found, [
        name if turns else None for name, turns in zip(names, _smollm3_turning(reader), strict=True)
    ]


def _qwen3_5_rotations(reader: ConfigReader, size: int, _: Sequence[int]) -> LayerRotations:
    """Positions in images differ by direction; those in texts do not."""
    return reader.rotations(size, part=0.25)


def _phi3_rotations(reader: ConfigReader, size: int, _: Sequence[int]) -> LayerRotations:
    return reader.rotations(size, part=1.0, kinds=("default",))


def _neox_rotations(reader: ConfigReader, size: int, _: Sequence[int]) -> LayerRotations:
    content = reader.content
    if content.get("rope_theta") or content.get("partial_rotary_factor"):
        raise Other("its positions are named as those of others")
    theta = content.get("rotary_emb_base", reader.theta)
    return replace(reader, theta=theta).rotations(size, part=content.get("rotary_pct", 0.25))


def _olmo2_rotations(reader: ConfigReader, size: int, _: Sequence[int]) -> LayerRotations:
    return _in_float32(reader.rotations(size))


def _olmo3_rotations(reader: ConfigReader, size: int, windows: Sequence[int]) -> LayerRotations:
    """Another one in layers with a window, which config.json's own key does not reach."""
    theta = reader.content.get("rope_theta", reader.theta)
    return _in_float32(reader.rotations_by_type(size, windows, theta, reader.theta))


def _granite4_rotations(reader: ConfigReader, size: int, _: Sequence[int]) -> LayerRotations:
    has_positions = reader.content.get("position_embedding_type") == "rope"
    return reader.rotations(size) if has_positions else _no_rotations(reader, size, _)


def _in_float32(rotations: LayerRotations) -> LayerRotations:
    """Rotations that are not rounded as the model's numbers are."""
    found, names = rotations
    return {name: replace(each, exact=True) for name, each in found.items()}, names


def _exaone4_rotations(reader: ConfigReader, size: int, windows: Sequence[int]) -> LayerRotations:
    """In layers with a window alone, if there is one."""
    found, names = reader.rotations(size)
    if reader.content.get("sliding_window", 4096) is not None:
        names = [name if window else None for name, window in zip(names, windows, strict=True)]
    return found, names


def _gptj_rotations(reader: ConfigReader, _: int, __: Sequence[int]) -> LayerRotations:
    """Of as many numbers of each head as it says."""
    size = reader.content.get("rotary_dim", 64)
    if type(size) is not int:
        raise Other("its rotary_dim is no size")
    return {"rotary": Rotation(frequencies(size, reader.theta))}, ["rotary"] * reader.layers


def _gemma3_rotations(reader: ConfigReader, size: int, windows: Sequence[int]) -> LayerRotations:
    """Another one in layers with a window."""
    content = reader.content
    theta, local = content.get("rope_theta", 1e6), content.get("rope_local_base_freq", 1e4)
    return reader.rotations_by_type(size, windows, theta, local)


# What else families have of their own


def _gemma(reader: ConfigReader, _: int) -> Own:
    content = reader.content
    return {
        "scalings": [float(content["query_pre_attn_scalar"]) ** -0.5] * reader.layers,
        "norm_offset": 1.0,
        "embedding_scale": float(content["hidden_size"]) ** 0.5,
        "rounds_embedding_scale": True,
        "score_cap": float(content.get("final_logit_softcapping") or 0),
    }


def _gemma2(reader: ConfigReader, head_size: int) -> Own:
    content = reader.content
    return {
        **_gemma(reader, head_size),
        "attention_cap": float(content.get("attn_logit_softcapping", 50.0) or 0),
        "score_cap": float(content.get("final_logit_softcapping", 30.0) or 0),
    }


def _first_that_shares(reader: ConfigReader) -> int:
    """From which layer on Gemma 4's read keys and values of earlier ones."""
    count = reader.content.get("num_kv_shared_layers") or 0
    if type(count) is not int or not 0 <= count < reader.layers:
        raise Other("its num_kv_shared_layers is no number of layers")
    return reader.layers - count


def _gemma4(reader: ConfigReader, _: int) -> Own:
    content = reader.content
    if content.get("enable_moe_block"):
        raise Other("it has experts")
    if content.get("use_bidirectional_attention") not in (None, False, "vision"):
        raise Other("its tokens see those after them")
    windows = _windows_of_gemma4(reader)
    attention = _gemma4_attention(reader, windows)
    names = [_SLIDING if window else _FULL for window in windows]
    rotations: dict[str, Rotation] = {}
    said = content.get("rope_parameters")
    positions: Mapping[str, Any] = _GEMMA4_POSITIONS if said is None else said
    for name in {*names}:
        alike = [layer for layer in range(reader.layers) if names[layer] == name]
        size, *others = {attention[layer].head_size for layer in alike}
        if others:
            raise Other("its heads differ in size where their positions are of one kind")
        given = positions[name]
        rotations[name] = reader.rotation(given, size, given["rope_theta"])
    inputs = content.get("hidden_size_per_layer_input", 256) or 0
    if type(inputs) is not int or inputs < 0 or inputs % 2:
        raise Other("its hidden_size_per_layer_input is no size")
    return {
        "attention": attention,
        "scalings": [1.0] * reader.layers,
        "rotations": rotations,
        "layer_rotations": names,
        "normalises_values": True,
        "layer_input": inputs,
        "input_vocabulary": reader.size("vocab_size_per_layer_input") if inputs else 0,
        "embedding_scale": float(content["hidden_size"]) ** 0.5,
        "rounds_embedding_scale": True,
        "score_cap": float(content.get("final_logit_softcapping") or 0),
    }


def _gemma4_attention(reader: ConfigReader, windows: Sequence[int]) -> list[Attention]:
    """Of each layer: those without a window have heads of their own, and the last ones read keys
    and values of the last one of their kind before them."""
    content, first = reader.content, _first_that_shares(reader)
    queries, one = reader.size("num_attention_heads"), bool(content.get("attention_k_eq_v"))
    usual = {"num_key_value_heads": content["num_key_value_heads"], "head_dim": content["head_dim"]}
    whole = {"head_dim": content.get("global_head_dim", 512)}
    if one and (count := content.get("num_global_key_value_heads")) is not None:
        whole["num_key_value_heads"] = count
    layers = range(reader.layers)
    own = content.get("per_layer_config")
    if own is None:
        own = {str(layer): whole for layer in layers if not windows[layer]}
    keeping = {bool(windows[layer]): layer for layer in range(first)}
    found: list[Attention] = []
    for layer in layers:
        sizes = {**usual, **own.get(str(layer), {})}
        if sizes.keys() != usual.keys():
            raise Other("its layers differ in more than their heads")
        heads, size = sizes["num_key_value_heads"], sizes["head_dim"]
        if type(size) is not int or size < 1 or size % 2:
            raise Other("its heads have no size")
        if type(heads) is not int or heads < 1 or queries % heads:
            raise Other("its heads are no groups")
        shares = None
        if layer >= first:
            shares = keeping.get(bool(windows[layer]))
            if shares is None:
                raise Other("no layer has the keys and values that another one reads")
        values_are_keys = one and not windows[layer] and shares is None
        found.append(Attention(queries, heads, size, values_are_keys, shares))
    return found


_GEMMA4_POSITIONS = {
    _SLIDING: {"rope_type": "default", "rope_theta": 1e4},
    _FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
}


def _multiplied(reader: ConfigReader) -> Own:
    content = reader.content
    return {
        "embedding_scale": float(content.get("embedding_multiplier", 1.0)),
        "residual_scale": float(content.get("residual_multiplier", 1.0)),
    }


def _granite(reader: ConfigReader, _: int) -> Own:
    content = reader.content
    return {
        **_multiplied(reader),
        "scalings": [float(content.get("attention_multiplier", 1.0))] * reader.layers,
        "score_scale": 1 / float(content.get("logits_scaling", 1.0)),
    }


def _granite4(reader: ConfigReader, head_size: int) -> Own:
    """Of Granite 4 without experts. Layers without attention are those of Mamba 2."""
    content = reader.content
    if content.get("num_local_experts", 8) != 0:
        raise Other("it has experts")
    types = content.get("layer_types") or [_LINEAR] * reader.layers
    if not {*types} <= {"attention", _FULL, "mamba", _LINEAR}:
        raise Other("its layer_types are others")
    attends = [each in ("attention", _FULL) for each in types]
    key_heads = content.get("num_key_value_heads") or reader.size("num_attention_heads")
    attention = Attention(reader.size("num_attention_heads"), int(key_heads), head_size)
    heads: list[Attention | RecurrentHeads] = [attention] * reader.layers
    if not all(attends):
        mamba = _mamba2(reader)
        heads = [attention if each else mamba for each in attends]
    return {**_granite(reader, head_size), "attention": heads}


_NO_LIMITS = ([0.0, inf], [0.0, {"__float__": "Infinity"}])
"""As Python writes infinity in JSON, and as transformers does."""


def _mamba2(reader: ConfigReader) -> RecurrentHeads:
    content, hidden = reader.content, reader.size("hidden_size")
    count, inner = reader.size("mamba_n_heads"), int(content.get("mamba_expand", 2) * hidden)
    size = content.get("mamba_d_head", "auto")
    if content.get("time_step_limit", _NO_LIMITS[0]) not in _NO_LIMITS:
        raise Other("its time steps are limited")
    if inner % count or size not in ("auto", inner // count):
        raise Other("its heads are of other sizes")
    mamba = RecurrentHeads(
        key_heads=reader.size("mamba_n_groups"),
        value_heads=count,
        key_size=reader.size("mamba_d_state"),
        value_size=inner // count,
        taps=reader.size("mamba_d_conv"),
        rule="sum",
    )
    if mamba.value_heads % mamba.key_heads or mamba.key_size % 2 or mamba.values % 2:
        raise Other("its sizes are odd")
    return mamba


def _hyperclovax(reader: ConfigReader, head_size: int) -> Own:
    content = reader.content
    around = content.get("use_post_norm", True)
    scaling = content.get("attention_multiplier")
    return {
        **_multiplied(reader),
        "names": tensor_names.HYPERCLOVAX if around else tensor_names.LLAMA,
        "scalings": [head_size**-0.5 if scaling is None else float(scaling)] * reader.layers,
        "score_scale": float(content.get("logits_scaling", 1.0)),
    }


def _lfm2(reader: ConfigReader, head_size: int) -> Own:
    """Some layers have a convolution in place of attention."""
    content = reader.content
    heads = Attention(
        reader.size("num_attention_heads"), reader.size("num_key_value_heads"), head_size
    )
    if (types := content.get("layer_types")) is not None:
        if not {*types} <= {"conv", "attention", _FULL}:
            raise Other("its layer_types are others")
        attends = [each != "conv" for each in types]
    else:
        given = content.get("full_attn_idxs")
        numbers = {*range(reader.layers)} if given is None else {*given}
        attends = [each in numbers for each in range(reader.layers)]
    taps = content.get("conv_L_cache", 3)
    if type(taps) is not int or not 0 < taps <= _MOST_TAPS:
        raise Other("its convolutions have no length")
    return {
        "attention": [heads if each else None for each in attends],
        "taps": taps,
        "activation": "silu",
        "tied": bool(content.get("tie_embedding", content.get("tie_word_embeddings", True))),
    }


def _qwen3_5(reader: ConfigReader, head_size: int) -> Own:
    """Most layers have a gated delta net. In others heads of queries stand beside their gates."""
    if reader.content.get("attn_output_gate", True) is not True:
        raise Other("its attention has no gates")
    heads = Attention(
        reader.size("num_attention_heads"), reader.size("num_key_value_heads"), head_size
    )
    nets = RecurrentHeads(
        key_heads=reader.size("linear_num_key_heads"),
        value_heads=reader.size("linear_num_value_heads"),
        key_size=reader.size("linear_key_head_dim"),
        value_size=reader.size("linear_value_head_dim"),
        taps=reader.size("linear_conv_kernel_dim"),
    )
    if nets.value_heads % nets.key_heads or nets.key_size % 2 or nets.values % 2:
        raise Other("its sizes are odd")
    if (types := reader.content.get("layer_types")) is None:
        interval = reader.content.get("full_attention_interval", 4)
        types = [_LINEAR if (n + 1) % interval else _FULL for n in range(reader.layers)]
    if not {*types} <= {_LINEAR, _FULL}:
        raise Other("its layer_types are others")
    return {
        "norm_offset": 1.0,
        "attention": [nets if each == _LINEAR else heads for each in types],
        "gates": Heads(head_size, 1, 2 * head_size),
        "heads": (
            Heads(0, 1, 2 * head_size),
            Heads(2 * heads.queries, heads.key_heads),
            Heads(2 * heads.queries + heads.keys, heads.key_heads),
        ),
    }


def _whole_query_norms(_: ConfigReader, __: int) -> Own:
    return {"whole_query_norms": True}


def _gpt2(reader: ConfigReader, head_size: int) -> Own:
    content = reader.content
    scaling = head_size**-0.5 if content.get("scale_attn_weights", True) else 1.0
    by_layer = bool(content.get("scale_attn_by_inverse_layer_idx"))
    return {
        **_GPT,
        "transposed": True,
        "scalings": [scaling / (1 + layer * by_layer) for layer in range(reader.layers)],
    }


def _gpt_neo(reader: ConfigReader, _: int) -> Own:
    return {**_GPT, "scalings": [1.0] * reader.layers}


def _gpt_neox(reader: ConfigReader, head_size: int) -> Own:
    """Queries, keys and values stand side by side for each head."""
    return {
        **_GPT,
        "parallel": bool(reader.content.get("use_parallel_residual", True)),
        "heads": tuple(Heads(part * head_size, 1, 3 * head_size) for part in range(3)),
    }


def _gptj(_: ConfigReader, __: int) -> Own:
    return {**_GPT, "parallel": True, "rotary": "pairs"}


def _codegen(reader: ConfigReader, head_size: int) -> Own:
    """Queries, values and keys stand side by side for each quarter of the heads."""
    heads = reader.size("num_attention_heads")
    if heads % 4:
        raise Other("its heads are no quarters")
    width = heads // 4 * head_size
    queries, values, keys = (Heads(part * width, heads // 4, 3 * width) for part in range(3))
    return {**_gptj(reader, head_size), "heads": (queries, keys, values)}


_GPT: Own = {"gated": False, "norm_kind": "layer"}

FAMILIES = {
    "llama": Family("LlamaForCausalLM", (1, 2, None), biases=_biases),
    "mistral": Family("MistralForCausalLM", (1, 2, None), windows=_window_everywhere(4096)),
    "qwen2": Family(
        "Qwen2ForCausalLM",
        (None, None, None),
        biases=lambda _: _QKV,
        windows=_windows_by_switch,
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        (None, None, None),
        tensor_names.QUERY_NORMS,
        biases=_attention_biases,
        windows=_windows_by_switch,
        needs=("head_dim",),
    ),
    "qwen3_5_text": Family(
        "Qwen3_5ForCausalLM",
        (None, None, None),
        tensor_names.QUERY_NORMS,
        needs=(
            "head_dim", "num_key_value_heads", "linear_num_key_heads", "linear_num_value_heads",
            "linear_key_head_dim", "linear_value_head_dim", "linear_conv_kernel_dim",
        ),
        biases=_attention_biases,
        rotations=_qwen3_5_rotations,
        own=_qwen3_5,
    ),
    "smollm3": Family(
        "SmolLM3ForCausalLM",
        (128_000, 128_001, 128_004),
        tied=True,
        theta=2_000_000.0,
        biases=_biases,
        windows=_windows_without_positions,
        rotations=_smollm3_rotations,
    ),
    "phi3": Family(
        "Phi3ForCausalLM",
        (1, 32_000, 32_000),
        tensor_names.PHI3,
        windows=_window_everywhere(None),
        rotations=_phi3_rotations,
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        (2, 1, 0),
        tensor_names.GEMMA3,
        tied=True,
        keys={"hidden_act": "hidden_activation"},
        biases=_attention_biases,
        windows=_windows_but_each(6, "sliding_window_pattern"),
        rotations=_gemma3_rotations,
        needs=_GEMMA_NEEDS,
        knows=frozenset({"final_logit_softcapping"}),
        own=_gemma,
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        (2, 1, 0),
        tensor_names.GEMMA2,
        tied=True,
        keys={"hidden_act": "hidden_activation"},
        biases=_attention_biases,
        windows=_windows_but_each(2),
        needs=_GEMMA_NEEDS,
        knows=frozenset({"final_logit_softcapping", "attn_logit_softcapping"}),
        own=_gemma2,
    ),
    "gemma4_text": Family(
        "Gemma4ForCausalLM",
        (2, 1, 0),
        tensor_names.GEMMA4,
        tied=True,
        keys={"hidden_act": "hidden_activation"},
        inner=_gemma4_inner_sizes,
        biases=_attention_biases,
        windows=_windows_of_gemma4,
        rotations=_no_rotations,
        needs=("head_dim", "hidden_act", "num_key_value_heads"),
        knows=frozenset({"final_logit_softcapping", "use_bidirectional_attention"}),
        own=_gemma4,
    ),
    "granite": Family("GraniteForCausalLM", (1, 2, None), biases=_biases, own=_granite),
    "granitemoehybrid": Family(
        "GraniteMoeHybridForCausalLM",
        (1, 2, None),
        tensor_names.GRANITE4,
        inner=_shared_inner_sizes,
        biases=_granite4_biases,
        rotations=_granite4_rotations,
        own=_granite4,
    ),
    "lfm2": Family(
        "Lfm2ForCausalLM",
        (1, 2, 0),
        tensor_names.LFM2,
        theta=1_000_000.0,
        keys={"rms_norm_eps": "norm_eps"},
        usual={"rms_norm_eps": 1e-5},
        needs=("num_key_value_heads",),
        inner=_lfm2_inner_sizes,
        biases=_lfm2_biases,
        own=_lfm2,
    ),
    "hyperclovax": Family(
        "HyperCLOVAXForCausalLM",
        (1, 2, None),
        tensor_names.HYPERCLOVAX,
        biases=_biases,
        own=_hyperclovax,
    ),
    "olmo2": Family(
        "Olmo2ForCausalLM",
        (None, 50_279, 1),
        tensor_names.NORMS_AFTER,
        biases=_attention_biases,
        rotations=_olmo2_rotations,
        own=_whole_query_norms,
    ),
    "olmo3": Family(
        "Olmo3ForCausalLM",
        (None, 50_279, 1),
        tensor_names.NORMS_AFTER,
        theta=500_000.0,
        biases=_attention_biases,
        windows=_windows_but_each(4),
        rotations=_olmo3_rotations,
        own=_whole_query_norms,
    ),
    "exaone4": Family(
        "Exaone4ForCausalLM",
        (0, 2, None),
        tensor_names.NORMS_AFTER,
        needs=("num_key_value_heads",),
        windows=_windows_of_exaone,
        rotations=_exaone4_rotations,
    ),
    "gpt2": Family(
        "GPT2LMHeadModel",
        (50_256, 50_256, None),
        tensor_names.GPT2,
        tied=True,
        keys=_GPT_KEYS,
        usual=_GPT_USUAL,
        grouped=False,
        inner=_four_times,
        biases=lambda _: frozenset({"c_attn", "c_proj", "c_fc"}),
        rotations=_no_rotations,
        own=_gpt2,
    ),
    "gpt_neo": Family(
        "GPTNeoForCausalLM",
        (50_256, 50_256, None),
        tensor_names.GPT_NEO,
        tied=True,
        keys={
            "num_attention_heads": "num_heads",
            "num_hidden_layers": "num_layers",
            "hidden_act": "activation_function",
            "rms_norm_eps": "layer_norm_epsilon",
        },
        usual=_GPT_USUAL,
        grouped=False,
        inner=_four_times,
        biases=lambda _: frozenset({"out_proj", "c_proj", "c_fc"}),
        windows=_windows_of_neo,
        rotations=_no_rotations,
        own=_gpt_neo,
    ),
    "gpt_neox": Family(
        "GPTNeoXForCausalLM",
        (0, 2, None),
        tensor_names.GPT_NEOX,
        keys={"rms_norm_eps": "layer_norm_eps"},
        usual={"hidden_act": "gelu", "rms_norm_eps": 1e-5},
        grouped=False,
        biases=_neox_biases,
        rotations=_neox_rotations,
        own=_gpt_neox,
    ),
    "gptj": Family(
        "GPTJForCausalLM",
        (50_256, 50_256, None),
        tensor_names.GPTJ,
        keys=_GPT_KEYS,
        usual=_GPT_USUAL,
        grouped=False,
        inner=_four_times,
        biases=lambda _: _GPTJ_BIASES,
        rotations=_gptj_rotations,
        own=_gptj,
    ),
    "codegen": Family(
        "CodeGenForCausalLM",
        (50_256, 50_256, None),
        tensor_names.CODEGEN,
        keys=_GPT_KEYS,
        usual=_GPT_USUAL,
        grouped=False,
        inner=_four_times,
        biases=lambda _: _GPTJ_BIASES,
        rotations=_gptj_rotations,
        own=_codegen,
    ),
}  # fmt: skip
FAMILIES["gemma4"] = replace(
    FAMILIES["gemma4_text"],
    class_name="Gemma4ForConditionalGeneration",
    names=replace(tensor_names.GEMMA4, prefix="model.language_model."),
    text="gemma4_text",
)
FAMILIES["qwen3_5"] = replace(
    FAMILIES["qwen3_5_text"],
    architecture="Qwen3_5ForConditionalGeneration",
    names=replace(tensor_names.QUERY_NORMS, prefix="model.language_model."),
    text="qwen3_5_text",
)
