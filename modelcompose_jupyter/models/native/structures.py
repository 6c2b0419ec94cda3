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
    )


class LayerStruct(ctypes.Structure):
    _fields_ = (
        ("qkv", ProductStruct * 3),
        ("output", ProductStruct),
        ("gate_up", ProductStruct * 2),
        ("down", ProductStruct),
        ("before_attention", _POINTER),
        ("after_attention", _POINTER),
        ("before_mlp", _POINTER),
        ("after_mlp", _POINTER),
        ("query_norm", _POINTER),
        ("key_norm", _POINTER),
        ("cosines", _POINTER),
        ("sines", _POINTER),
        ("window", _NUMBER),
        ("scaling", _FLOAT),
    )


class ModelStruct(ctypes.Structure):
    _fields_ = (
        ("embedding", ProductStruct),
        ("layers", ctypes.POINTER(LayerStruct)),
        ("norm", _POINTER),
        ("head", ProductStruct),
        ("layer_count", _NUMBER),
        ("hidden", _NUMBER),
        ("intermediate", _NUMBER),
        ("query_heads", _NUMBER),
        ("key_heads", _NUMBER),
        ("head_size", _NUMBER),
        ("rotary_size", _NUMBER),
        ("activation", _NUMBER),
        ("epsilon", _FLOAT),
        ("embedding_scale", _FLOAT),
    )


TOKEN = np.dtype(
    [
        ("row", np.uint64),
        ("layer_size", np.int64),
        ("to_values", np.int64),
        ("head_stride", np.int64),
        ("position", np.int64),
        ("id", np.int64),
    ]
)
"""A token of a step."""
