"""A decoder whose steps run in C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from .build import kernels
from .linear import Linear
from .parts import (
    ACTIVATIONS,
    NORMS,
    ROTARY,
    RULES,
    Attention,
    Convolution,
    Heads,
    Layer,
    LayerInputs,
    Norm,
    Parts,
    Recurrence,
)
from .structures import (
    TOKEN,
    HeadsStruct,
    LayerInputsStruct,
    LayerStruct,
    ModelStruct,
    NormStruct,
    ProductStruct,
    RecurrenceStruct,
)
from .threads import ThreadPool

_FIRST_POSITIONS = 512


class Decoder:
    """Steps of a decoder; of one thread.

    Raises:
        ValueError: its parts do not fit each other.
    """

    def __init__(self, parts: Parts) -> None:
        library = kernels()
        assert library is not None
        self._step = getattr(library, f"step_{'codes' if parts.has_codes else parts.kind}")
        self._parts = parts
        self._pool = ThreadPool()
        self._positions = 0
        self.vocabulary = parts.head.outputs
        self._known = parts.embedding.outputs
        if parts.inputs is not None:
            self._known = min(self._known, parts.inputs.table.outputs)
        self._places = None if parts.positions is None else len(parts.positions)
        parts.verify()
        self._layers = (LayerStruct * len(parts.layers))(*map(_layer, parts.layers))
        self._place_kept()
        self._struct = self._model()

    def step(self, tokens: np.ndarray, wanted: Sequence[int], threads: int) -> np.ndarray:
        """One pass.

        Args:
            tokens: of `structures.TOKEN`; those of a sequence in order.
            wanted: which of the tokens the next ones are asked of.

        Returns:
            Scores of the next token, float32 [wanted, vocabulary].

        Raises:
            Exception: from `Parts.check`.
            IndexError: there is no such token, or no such position.
            MemoryError: there is no memory for it.
        """
        self._parts.check()
        ids = tokens["id"]
        if ids.min() < 0 or ids.max() >= self._known:
            raise IndexError(f"a token is not among the {self._known} that the model knows")
        last = int(tokens["position"].max())
        if self._places is not None and last >= self._places:
            raise IndexError(f"a token is beyond the {self._places} positions of the model")
        self._reach(last + 1)
        asked = np.array(wanted, dtype=np.int64)
        scores = np.empty((len(asked), self.vocabulary), dtype=np.float32)
        failed = self._step(
            self._pool.address, threads, ctypes.addressof(self._struct), tokens.ctypes.data,
            len(tokens), asked.ctypes.data, len(asked), scores.ctypes.data,
        )  # fmt: skip
        if failed:
            raise MemoryError("no memory for a step")
        return scores

    def _model(self) -> ModelStruct:
        parts = self._parts
        return ModelStruct(
            embedding=parts.embedding.struct,
            positions=_address(parts.positions),
            inputs=_inputs(parts.inputs),
            layers=self._layers,
            norm=_norm(parts.norm),
            head=parts.head.struct,
            layer_count=len(self._layers),
            hidden=parts.head.inputs,
            rotary=ROTARY[parts.rotary],
            state_at=parts.kept_layout.token_bytes,
            activation=ACTIVATIONS[parts.activation],
            coded_cache=parts.coded_cache,
            epsilon=parts.epsilon,
            embedding_scale=parts.embedding_scale,
            residual_scale=parts.residual_scale,
            score_scale=parts.score_scale,
            attention_cap=parts.attention_cap,
            score_cap=parts.score_cap,
        )

    def _place_kept(self) -> None:
        """Say of each layer where what it keeps, or reads of an earlier one, stands."""
        at = state_at = 0
        for struct, layer in zip(self._layers, self._parts.layers, strict=True):
            if isinstance(layer.mixer, Recurrence):
                struct.recurrence.state_at = state_at
                state_at += layer.state_bytes
                continue
            shares = layer.mixer.shares if isinstance(layer.mixer, Attention) else None
            if shares is not None:
                other = self._layers[shares]
                struct.keys_at, struct.values_at = other.keys_at, other.values_at
                struct.record = other.record
                continue
            tracks = self._parts.tracks(layer)
            struct.keys_at, struct.values_at = at, at + tracks[0].bytes
            struct.record = tracks[0].record
            at += sum(track.bytes for track in tracks)

    def _reach(self, positions: int) -> None:
        """Have the rotations of so many positions."""
        if positions <= self._positions:
            return
        self._positions = max(_FIRST_POSITIONS, 1 << (positions - 1).bit_length())
        self._tables = self._parts.rotations(self._positions)
        for struct, layer in zip(self._layers, self._parts.layers, strict=True):
            if layer.rotation is not None:
                cosines, sines = self._tables[layer.rotation]
                struct.cosines, struct.sines = _address(cosines), _address(sines)
                struct.rotary_size = 2 * cosines.shape[1]


def _layer(layer: Layer) -> LayerStruct:
    mixer = layer.mixer
    if isinstance(mixer, Convolution):
        mixing: dict[str, Any] = {
            "taps": len(mixer.kernel),
            "kernel": _address(mixer.kernel),
            "kernel_bias": _address(mixer.bias),
        }
    elif isinstance(mixer, Recurrence):
        arrays = {name: _address(each) for name, each in mixer.arrays.items()}
        sizes = {**vars(mixer.heads), **mixer.heads.places, "rule": RULES[mixer.heads.rule]}
        mixing = {"recurrence": RecurrenceStruct(**sizes, **arrays)}
    else:
        queries, keys, values = map(_heads, layer.heads or mixer.side_by_side)
        mixing = {
            "query_heads": mixer.query_heads,
            "key_heads": mixer.key_heads,
            "head_size": mixer.head_size,
            "queries": queries,
            "keys": keys,
            "values": values,
            "shares": mixer.shares is not None,
        }
        if layer.gates is not None:
            mixing["gates"] = _heads(layer.gates)
    return LayerStruct(
        **mixing,
        qkv=(ProductStruct * 4)(*(each.struct for each in layer.qkv)),
        output=layer.output.struct,
        gate_up=(ProductStruct * 2)(*(each.struct for each in layer.gate_up)),
        down=layer.down.struct,
        **{name: _norm(norm) for name, norm in layer.norms.items()},
        parallel=layer.parallel,
        window=layer.window,
        scaling=layer.scaling,
        input_gate=_product(layer.input_gate),
        input_output=_product(layer.input_output),
        output_scale=layer.output_scale,
    )


def _inputs(inputs: LayerInputs | None) -> LayerInputsStruct:
    if inputs is None:
        return LayerInputsStruct()
    return LayerInputsStruct(
        table=inputs.table.struct,
        projection=inputs.projection.struct,
        norm=_norm(inputs.norm),
        table_scale=inputs.table_scale,
        projection_scale=inputs.projection_scale,
        scale=inputs.scale,
    )


def _product(linear: Linear | None) -> ProductStruct:
    return ProductStruct() if linear is None else linear.struct


def _norm(norm: Norm | None) -> NormStruct:
    if norm is None:
        return NormStruct()
    weights, bias = _address(norm.weights), _address(norm.bias)
    return NormStruct(weights, bias, len(norm.weights), NORMS[norm.kind])


def _heads(heads: Heads) -> HeadsStruct:
    return HeadsStruct(heads.first, heads.group, heads.stride)


def _address(array: np.ndarray | None) -> int | None:
    """Where an array is, which must stay; None where there is none."""
    assert array is None or array.flags.c_contiguous
    return None if array is None else array.ctypes.data


def token_array(count: int) -> np.ndarray:
    """Room for so many tokens of a step."""
    return np.empty(count, TOKEN)
