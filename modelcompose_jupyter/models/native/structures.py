"""The structures of native.h."""

from __future__ import annotations

import ctypes

import numpy as np

_POINTER, _NUMBER, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class ProductStruct(ctypes.Structure):
    _fields_ = (
        ("weights", _POINTER),
        ("bias", _POINTER),
        ("values", _POINTER),
        ("outputs", _NUMBER),
        ("inputs", _NUMBER),
        ("form", _NUMBER),
        ("scaling", _NUMBER),
    )


class NormStruct(ctypes.Structure):
    _fields_ = (
        ("weights", _POINTER),
        ("bias", _POINTER),
        ("size", _NUMBER),
        ("kind", _NUMBER),
    )


class HeadsStruct(ctypes.Structure):
    _fields_ = (
        ("first", _NUMBER),
        ("group", _NUMBER),
        ("stride", _NUMBER),
    )


class RecurrenceStruct(ctypes.Structure):
    _fields_ = (
        ("key_heads", _NUMBER),
        ("value_heads", _NUMBER),
        ("key_size", _NUMBER),
        ("value_size", _NUMBER),
        ("rule", _NUMBER),
        ("channels_at", _NUMBER),
        ("gates_at", _NUMBER),
        ("rates_at", _NUMBER),
        ("queries_at", _NUMBER),
        ("keys_at", _NUMBER),
        ("values_at", _NUMBER),
        ("taps", _NUMBER),
        ("filter", _POINTER),
        ("filter_bias", _POINTER),
        ("decay", _POINTER),
        ("bias", _POINTER),
        ("skip", _POINTER),
        ("norm", _POINTER),
        ("state_at", _NUMBER),
    )


class LayerStruct(ctypes.Structure):
    _fields_ = (
        ("qkv", ProductStruct * 4),
        ("output", ProductStruct),
        ("gate_up", ProductStruct * 2),
        ("down", ProductStruct),
        ("before_attention", NormStruct),
        ("after_attention", NormStruct),
        ("before_mlp", NormStruct),
        ("after_mlp", NormStruct),
        ("query_norm", NormStruct),
        ("key_norm", NormStruct),
        ("value_norm", NormStruct),
        ("query_heads", _NUMBER),
        ("key_heads", _NUMBER),
        ("head_size", _NUMBER),
        ("queries", HeadsStruct),
        ("keys", HeadsStruct),
        ("values", HeadsStruct),
        ("gates", HeadsStruct),
        ("cosines", _POINTER),
        ("sines", _POINTER),
        ("rotary_size", _NUMBER),
        ("parallel", _NUMBER),
        ("window", _NUMBER),
        ("scaling", _FLOAT),
        ("shares", _NUMBER),
        ("input_gate", ProductStruct),
        ("input_output", ProductStruct),
        ("after_input", NormStruct),
        ("output_scale", _FLOAT),
        ("taps", _NUMBER),
        ("kernel", _POINTER),
        ("kernel_bias", _POINTER),
        ("recurrence", RecurrenceStruct),
        ("keys_at", _NUMBER),
        ("values_at", _NUMBER),
        ("record", _NUMBER),
    )


class LayerInputsStruct(ctypes.Structure):
    _fields_ = (
        ("table", ProductStruct),
        ("projection", ProductStruct),
        ("norm", NormStruct),
        ("table_scale", _FLOAT),
        ("projection_scale", _FLOAT),
        ("scale", _FLOAT),
    )


class ModelStruct(ctypes.Structure):
    _fields_ = (
        ("embedding", ProductStruct),
        ("positions", _POINTER),
        ("inputs", LayerInputsStruct),
        ("layers", ctypes.POINTER(LayerStruct)),
        ("norm", NormStruct),
        ("head", ProductStruct),
        ("layer_count", _NUMBER),
        ("hidden", _NUMBER),
        ("rotary", _NUMBER),
        ("state_at", _NUMBER),
        ("activation", _NUMBER),
        ("coded_cache", _NUMBER),
        ("epsilon", _FLOAT),
        ("embedding_scale", _FLOAT),
        ("residual_scale", _FLOAT),
        ("score_scale", _FLOAT),
        ("attention_cap", _FLOAT),
        ("score_cap", _FLOAT),
    )


TOKEN = np.dtype(
    [
        ("kept", np.uint64),
        ("capacity", np.int64),
        ("position", np.int64),
        ("id", np.int64),
    ]
)
"""A token of a step."""
