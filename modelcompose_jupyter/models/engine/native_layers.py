"""A model of transformers as a decoder in C, of the same weights."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..native.build import kernels, why_none
from ..native.codes import Codes
from ..native.linear import Linear
from ..native.numbers import Kind
from ..native.parts import Activation, Attention, Layer, Norm, Parts, Rotations
from ..weights import decoder_config, decoder_parts
from ..weights.config_reader import Other
from ..weights.decoder_config import DecoderConfig
from ..weights.decoder_parts import LinearTensor
from . import layers

KINDS: dict[torch.dtype, Kind] = {
    torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16",
}  # fmt: skip
_ACTIVATIONS: dict[str, Activation] = {
    "SiLUActivation": "silu", "SiLU": "silu",
    "GELUTanh": "gelu_tanh", "PytorchGELUTanh": "gelu_tanh",
}  # fmt: skip
_USUAL = "default"


def unsupported_layers(model: Any) -> str | None:
    """Why steps of a model cannot run in C, or None. Of those whose layers can be replaced."""
    config = model.config
    if (reason := _unsupported_weights(model)) is not None:
        return reason
    if getattr(config, "final_logit_softcapping", None):
        return "its scores are capped"
    layer = model.base_model.layers[0]
    if type(_activation(layer.mlp)).__name__ not in _ACTIVATIONS:
        return "its activation is another one"
    inputs = (m.in_features for m in model.modules() if isinstance(m, nn.Linear))
    if any(each % 2 for each in inputs) or layer.self_attn.head_dim % 2:
        return "its sizes are odd"
    return None


def _unsupported_weights(model: Any) -> str | None:
    if kernels() is None:
        return why_none()
    if model.device.type != "cpu" or model.dtype not in KINDS:
        return f"{model.dtype} on {model.device.type} is not supported"
    if any(type(each.data) is not torch.Tensor for each in model.parameters()):
        return "its weights are quantised"
    if any(each.dtype != model.dtype for each in model.parameters()):
        return "its weights are of several types"
    return None


def unsupported_family(model: Any) -> str | None:
    """Why a model is not of a family that runs in C from its tensors as they are, or None."""
    reason = _unsupported_weights(model)
    try:
        return reason if reason is not None else _check_tensors(model, _config(model))
    except Other as error:
        return str(error)


def _config(model: Any) -> DecoderConfig:
    """A model's config, as it would be in a file.

    Raises:
        Other: it is of no family that is known there, or of code that came with it.
    """
    config = decoder_config.read(json.loads(model.config.to_json_string()))
    kind = type(model)
    if kind.__name__ != config.class_name or not kind.__module__.startswith("transformers."):
        raise Other("it is of another class")
    return replace(config, names=config.names.as_in(model.state_dict()))


def _check_tensors(model: Any, config: DecoderConfig) -> str | None:
    there = model.state_dict()
    for tensor in decoder_parts.tensors(config):
        if tensor.name not in there or there[tensor.name].shape != tensor.shape:
            return f"{tensor.name} is another one"
    return None


def family_parts(model: Any) -> Parts:
    """A model as a decoder in C, of the same weights. It still works with generate().

    Raises:
        Other: it is not of those that `unsupported_family` says nothing of.
    """
    config = _config(model)
    model.requires_grad_(False)
    for tensor in decoder_parts.tensors(config):
        if tensor.transposed:
            weight = model.get_parameter(tensor.name)
            weight.data = weight.data.t().contiguous().t()  # the module has the same memory
    reader = _ModuleReader(model, config)
    return decoder_parts.DecoderBuilder(config, KINDS[model.dtype], reader).parts()


class _ModuleReader:
    """Reads a model's own tensors; see `decoder_parts.Reader`."""

    def __init__(self, model: Any, config: DecoderConfig) -> None:
        self._model = model
        self._there = model.state_dict()
        self._config = config

    def numbers(self, name: str) -> np.ndarray:
        return _array(self._there[name])

    def float32(self, name: str) -> np.ndarray:
        return _array(self._there[name].float())

    def embedding(self, name: str) -> Linear:
        return Linear(self.numbers(name), None, KINDS[self._model.dtype])

    def rows(self, name: str) -> Linear:
        return self.embedding(name)

    def matrices(self, tensor: LinearTensor) -> list[np.ndarray | Codes]:
        name = tensor.weight.name
        if tensor.layer is None and self._config.tied:
            name = self._config.table_name
        if tensor.transposed:
            whole = _array(self._model.get_parameter(name).data.t())
        else:
            whole = self.numbers(name)
        return [whole[rows] for rows in tensor.rows]


def _activation(mlp: Any) -> Any:
    return getattr(mlp, "act_fn", None) or mlp.activation_fn


class NativeProduct:
    """A linear layer in C, as `layers.Product` is one.

    Args:
        weight: [out, in].
        bias: [out], or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.out_features, self._inputs = weight.shape
        self.linear = Linear(
            _array(weight), None if bias is None else _array(bias), KINDS[weight.dtype]
        )

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        return self._run(input, input.new_empty((*input.shape[:-1], self.out_features)), add=False)

    def added(self, input: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        """The product of the input, added to a tensor of its shape."""
        return self._run(input, to.clone(memory_format=torch.contiguous_format), add=True)

    def _run(self, input: torch.Tensor, out: torch.Tensor, add: bool) -> torch.Tensor:
        input = input.contiguous()
        self.linear.run(
            input.data_ptr(), input.numel() // self._inputs, out.data_ptr(),
            add=add, threads=torch.get_num_threads(),
        )  # fmt: skip
        return out


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array of the same memory; the bits of bfloat16 as uint16."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    array: np.ndarray = tensor.numpy()
    return array


def parts(model: Any) -> Parts:
    """A model as a decoder in C. Its modules are replaced by such that use the same weights."""
    layers.optimise(model.requires_grad_(False), NativeProduct)
    inner = model.base_model
    embedding, first = inner.embed_tokens, inner.layers[0]
    scale = torch.as_tensor(getattr(embedding, "embed_scale", 1.0), dtype=model.dtype)
    names = _rotation_names(inner)
    return Parts(
        kind=KINDS[model.dtype],
        embedding=Linear(_array(embedding.weight), None, KINDS[model.dtype]),
        layers=[_layer(each, name) for each, name in zip(inner.layers, names, strict=True)],
        norm=_norm(layers.Norm(inner.norm)),
        head=model.get_output_embeddings().product.linear,
        activation=_ACTIVATIONS[type(first.activation).__name__],
        epsilon=first.input_layernorm.epsilon,
        embedding_scale=float(scale),
        rotations=lambda positions: {
            name: _rotations(inner, name, positions) for name in set(names)
        },
    )


def _layer(layer: Any, rotation: str) -> Layer:
    around = layer.norms_around
    before_mlp = layer.pre_feedforward_layernorm if around else layer.post_attention_layernorm
    size, inner = layer.head_dim, layer.gate_up.out_features // 2
    queries, keys = layer.query_heads * size, layer.key_heads * size
    return Layer(
        mixer=Attention(layer.query_heads, layer.key_heads, size),
        qkv=layer.qkv.linear.parts(queries, keys, keys),
        output=layer.output.linear,
        gate_up=layer.gate_up.linear.parts(inner, inner),
        down=layer.down.linear,
        before_attention=_norm(layer.input_layernorm),
        before_mlp=_norm(before_mlp),
        after_attention=_norm(layer.post_attention_layernorm) if around else None,
        after_mlp=_norm(layer.post_feedforward_layernorm) if around else None,
        query_norm=None if layer.query_norm is None else _norm(layer.query_norm),
        key_norm=None if layer.key_norm is None else _norm(layer.key_norm),
        value_norm=None,
        window=layer.sliding_window or 0,
        scaling=layer.scaling,
        rotation=rotation if layer.use_rope else None,
    )


def _norm(norm: layers.Norm) -> Norm:
    return Norm(_array(norm.weight.float()))


def _rotation_names(inner: Any) -> list[str]:
    """By which rotation each layer turns."""
    if hasattr(inner.rotary_emb.rotary, "layer_types"):
        return list(inner.config.layer_types)
    return [_USUAL] * len(inner.layers)


def _rotations(inner: Any, name: str, positions: int) -> Rotations:
    """Cosines and sines as the model rounds them."""
    like = inner.embed_tokens.weight[:0]
    options = {} if name == _USUAL else {"layer_type": name}
    both = inner.rotary_emb.rotary(like, position_ids=torch.arange(positions)[None], **options)
    cosines, sines = (_array(each[0, :, : each.shape[-1] // 2].float()) for each in both)
    return cosines, sines
