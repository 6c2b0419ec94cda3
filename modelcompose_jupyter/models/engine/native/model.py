"""A decoder whose steps run in C."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..kv_cache import Slab, Slot
from ..layers import Norm
from .build import kernels
from .linear import KINDS
from .structures import TOKEN, LayerStruct, ModelStruct

_ACTIVATIONS = {"SiLUActivation": 0, "SiLU": 0, "GELUTanh": 1, "PytorchGELUTanh": 1}
_FIRST_POSITIONS = 512


def unsupported_layers(model: Any) -> str | None:
    """Why steps of a model cannot run in C, or None. Of those whose layers can be replaced."""
    config = model.config
    if kernels() is None:
        return "there are no kernels"
    if model.device.type != "cpu" or model.dtype not in KINDS:
        return f"{model.dtype} on {model.device.type} is not supported"
    if any(type(each.data) is not torch.Tensor for each in model.parameters()):
        return "its weights are quantised"
    if any(each.dtype != model.dtype for each in model.parameters()):
        return "its weights are of several types"
    if getattr(config, "final_logit_softcapping", None):
        return "its scores are capped"
    layer = model.base_model.layers[0]
    if type(_activation(layer.mlp)).__name__ not in _ACTIVATIONS:
        return "its activation is another one"
    inputs = (m.in_features for m in model.modules() if isinstance(m, nn.Linear))
    if any(each % 2 for each in inputs) or layer.self_attn.head_dim % 2:
        return "its sizes are odd"
    return None


def _activation(mlp: Any) -> Any:
    return getattr(mlp, "act_fn", None) or mlp.activation_fn


class NativeModel:
    """The steps of a model whose layers are `DecoderLayer` with products in C.

    Only its engine's thread may use it.
    """

    def __init__(self, model: Any) -> None:
        library = kernels()
        assert library is not None
        self._step = getattr(library, f"step_{KINDS[model.dtype]}")
        self._inner = model.base_model
        self._kept: list[torch.Tensor] = []
        self._positions = 0
        layers = list(self._inner.layers)
        self._layers = (LayerStruct * len(layers))(*map(self._layer, layers))
        self._struct = self._model(model, layers[0])
        self.vocabulary = int(self._struct.head.outputs)
        self._itemsize = model.dtype.itemsize

    def forward(
        self,
        tokens: Sequence[int],
        wanted: Sequence[int],
        slabs: Iterable[Slab] = (),
        spans: Iterable[tuple[Slot, int]] = (),
    ) -> torch.Tensor:
        """See `ModelRunner.forward`; the scores are float32."""
        given = self._tokens(tokens, slabs, spans)
        self._check(given["id"])
        self._reach(int(given["position"].max()) + 1)
        asked = np.array(wanted, dtype=np.int64)
        scores = torch.empty((len(asked), self.vocabulary), dtype=torch.float32)
        failed = self._step(
            ctypes.addressof(self._struct), given.ctypes.data, len(given),
            asked.ctypes.data, len(asked), scores.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        if failed:
            raise MemoryError("no memory for a step")
        return scores

    def _tokens(
        self, tokens: Sequence[int], slabs: Iterable[Slab], spans: Iterable[tuple[Slot, int]]
    ) -> np.ndarray:
        given = np.empty(len(tokens), TOKEN)
        place = 0
        for slot, count in [*((slot, 1) for slab in slabs for slot in slab.slots), *spans]:
            data = slot.slab.data
            layer, to_values, row, head, _, _ = data.stride()
            part = given[place : place + count]
            part["row"] = data.data_ptr() + slot.row * row * self._itemsize
            part["layer_size"], part["to_values"], part["head_stride"] = layer, to_values, head
            part["position"] = range(slot.length, slot.length + count)
            place += count
        given["id"] = tokens
        return given

    def _check(self, tokens: np.ndarray) -> None:
        known = self._inner.embed_tokens.weight.shape[0]
        if tokens.min() < 0 or tokens.max() >= known:
            raise IndexError(f"a token is not among the {known} that the model knows")

    # The structures

    def _model(self, model: Any, layer: Any) -> ModelStruct:
        embedding = self._inner.embed_tokens
        scale = torch.as_tensor(getattr(embedding, "embed_scale", 1.0), dtype=model.dtype)
        return ModelStruct(
            embedding=self._keep(embedding.weight),
            layers=self._layers,
            norm=self._norm(Norm(self._inner.norm)),
            head=model.get_output_embeddings().product.struct,
            layer_count=len(self._layers),
            hidden=embedding.weight.shape[1],
            intermediate=layer.gate_up.out_features // 2,
            query_heads=layer.query_heads,
            key_heads=layer.key_heads,
            head_size=layer.head_dim,
            rotary_size=0,
            activation=_ACTIVATIONS[type(layer.activation).__name__],
            epsilon=layer.input_layernorm.epsilon,
            embedding_scale=float(scale),
        )

    def _layer(self, layer: Any) -> LayerStruct:
        around = layer.norms_around
        before_mlp = layer.pre_feedforward_layernorm if around else layer.post_attention_layernorm
        return LayerStruct(
            qkv=layer.qkv.struct,
            output=layer.output.struct,
            gate_up=layer.gate_up.struct,
            down=layer.down.struct,
            before_attention=self._norm(layer.input_layernorm),
            after_attention=self._norm(layer.post_attention_layernorm) if around else None,
            before_mlp=self._norm(before_mlp),
            after_mlp=self._norm(layer.post_feedforward_layernorm) if around else None,
            query_norm=self._norm(layer.query_norm),
            key_norm=self._norm(layer.key_norm),
            window=layer.sliding_window or 0,
            scaling=layer.scaling,
        )

    def _norm(self, norm: Any) -> int | None:
        return None if norm is None else self._keep(norm.weight.float())

    def _keep(self, tensor: torch.Tensor) -> int:
        """The address of a tensor, which stays."""
        self._kept.append(tensor.detach().contiguous())
        address: int = self._kept[-1].data_ptr()
        return address

    # Positions

    def _reach(self, positions: int) -> None:
        """Have the rotations of so many positions."""
        if positions <= self._positions:
            return
        self._positions = max(_FIRST_POSITIONS, 1 << (positions - 1).bit_length())
        kinds = self._kinds()
        self._tables = {kind: self._rotations(kind) for kind in set(kinds)}
        for struct, layer, kind in zip(self._layers, self._inner.layers, kinds, strict=True):
            if layer.use_rope:
                cosines, sines = self._tables[kind]
                struct.cosines, struct.sines = cosines.data_ptr(), sines.data_ptr()
                self._struct.rotary_size = 2 * cosines.shape[1]

    def _kinds(self) -> list[str | None]:
        """By which rotation each layer turns; None where there is but one."""
        if hasattr(self._inner.rotary_emb.rotary, "layer_types"):
            return list(self._inner.config.layer_types)
        return [None] * len(self._layers)

    def _rotations(self, kind: str | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines as the model rounds them, [positions, rotary size / 2]."""
        own = self._inner.rotary_emb.rotary
        like = self._inner.embed_tokens.weight[:0]
        options = {} if kind is None else {"layer_type": kind}
        cosines, sines = own(like, position_ids=torch.arange(self._positions)[None], **options)
        half = cosines.shape[-1] // 2
        return cosines[0, :, :half].float().contiguous(), sines[0, :, :half].float().contiguous()
