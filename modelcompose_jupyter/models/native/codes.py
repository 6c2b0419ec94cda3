"""Weights of 8 and 4 bits: codes in blocks, with a scale for each block.

They stand in records as native.h describes them: what the kernels read, in the order of reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .build import kernels
from .numbers import KINDS, Kind
from .threads import common_pool

BLOCK = 32
"""Inputs that share a scale."""
GROUP = 16
"""Outputs that stand side by side."""

Form = Literal["int8", "int4"]
FORMS: dict[Form, int] = {"int8": 3, "int4": 4}
"""As native.h numbers them."""
_BITS: dict[Form, int] = {"int8": 8, "int4": 4}

VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.int8
)
"""Of codes of 4 bits, as GGUF's IQ4_NL has them: close where weights are frequent."""


@dataclass(frozen=True, eq=False)
class Codes:
    """Weights [outputs, inputs] as codes.

    Attributes:
        records: uint8 [groups, blocks, bytes of a record].
        values: int8 [16], which codes of 4 bits are places in; None of 8 bits.
    """

    records: np.ndarray
    outputs: int
    inputs: int
    form: Form
    values: np.ndarray | None = None

    def as_float32(self) -> np.ndarray:
        """What they stand for, [outputs, inputs]."""
        groups, blocks, size = self.records.shape
        codes, scales = np.split(self.records, [size - 2 * GROUP], axis=2)
        if self.form == "int8":
            found = codes.view(np.int8)
        else:
            assert self.values is not None
            found = self.values[np.stack([codes & 15, codes >> 4], axis=2)]
        found = found.reshape(groups, blocks, BLOCK // 2, GROUP, 2).transpose(0, 3, 1, 2, 4)
        factors = np.ascontiguousarray(scales).view(np.float16).astype(np.float32)
        numbers = (
            found.reshape(groups, GROUP, blocks, BLOCK) * factors.transpose(0, 2, 1)[..., None]
        )
        whole: np.ndarray = numbers.reshape(groups * GROUP, blocks * BLOCK)
        return whole[: self.outputs, : self.inputs]


def shape(outputs: int, inputs: int, form: Form) -> tuple[int, int, int]:
    """Of the records of such weights."""
    return -(-outputs // GROUP), -(-inputs // BLOCK), GROUP * (BLOCK * _BITS[form] // 8 + 2)


def size(outputs: int, inputs: int, form: Form) -> int:
    """Bytes of such weights."""
    groups, blocks, record = shape(outputs, inputs, form)
    return groups * blocks * record


def found(stored: np.ndarray, outputs: int, inputs: int, form: Form) -> Codes:
    """Codes that are there, uint8 [`size`]."""
    values = VALUES if form == "int4" else None
    return Codes(stored.reshape(shape(outputs, inputs, form)), outputs, inputs, form, values)


def coded(weights: np.ndarray, kind: Kind, form: Form, room: np.ndarray, threads: int) -> Codes:
    """Weights [outputs, inputs] of a kind as the codes that come closest.

    Args:
        room: uint8 [`size`], where they go.
    """
    made = found(room, weights.shape[0], weights.shape[1], form)
    library = kernels()
    assert library is not None
    weights = np.ascontiguousarray(weights)
    with common_pool() as pool:
        library.code_weights(
            pool.address, threads, weights.ctypes.data, KINDS[kind], made.outputs, made.inputs,
            FORMS[form], None if made.values is None else made.values.ctypes.data,
            made.records.ctypes.data,
        )  # fmt: skip
    return made
