"""Kinds of numbers, as arrays: NumPy has no bfloat16, so its bits stand in uint16."""

from __future__ import annotations

from typing import Literal

import numpy as np

Kind = Literal["float32", "bfloat16", "float16"]
KINDS: dict[Kind, int] = {"float32": 0, "bfloat16": 1, "float16": 2}
"""As native.h numbers them."""


def dtype(kind: Kind) -> np.dtype:
    """That of an array of such numbers."""
    return np.dtype({"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16}[kind])


def kind_of(array: np.ndarray) -> Kind:
    """The kind of an array of such numbers."""
    return next(kind for kind in KINDS if dtype(kind) == array.dtype)


def as_float32(numbers: np.ndarray, kind: Kind) -> np.ndarray:
    """The same numbers in float32."""
    if kind == "bfloat16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32)


def converted(numbers: np.ndarray, kind: Kind, to: Kind) -> np.ndarray:
    """Numbers of one kind as those of another, rounded to the nearest and, of two, the even one."""
    if kind == to:
        return numbers
    wide = as_float32(numbers, kind)
    if to != "bfloat16":
        return wide.astype(dtype(to))
    bits = wide.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(wide), np.uint16(0x7FC0), rounded)


def rounded(numbers: np.ndarray, kind: Kind) -> np.ndarray:
    """float32 numbers, rounded to those that a kind has; still float32."""
    return as_float32(converted(numbers, "float32", kind), kind)
