"""Weights in 8 and 4 bits: codes in blocks, with a scale for each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .build import kernels
from .linear import room
from .numbers import KINDS, Kind
from .threads import common_pool

BLOCK = 32
"""Weights of one output that share a scale."""
Bits = Literal[8, 4]
FORMS: dict[Bits, int] = {8: 1, 4: 2}
"""As native.h numbers them."""
VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.int8
)
"""Of codes of 4 bits, as GGUF's IQ4_NL has them: close where weights are frequent."""


@dataclass(frozen=True, eq=False)
class Codes:
    """Weights [outputs, inputs] as codes.

    Attributes:
        codes: uint8 [outputs, inputs * bits / 8]; of 8 bits as int8 says them. Of 4 bits a byte has
            one of a block in its lower half, and that of the same place in the next in its upper.
        scales: float16 [outputs, inputs / BLOCK].
        values: int8 [16] of codes of 4 bits, which are places in it; None of 8 bits.
    """

    codes: np.ndarray
    scales: np.ndarray
    bits: Bits
    values: np.ndarray | None = None

    @property
    def bytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def numbers(self) -> np.ndarray:
        """What they stand for, float32 [outputs, inputs]."""
        outputs = len(self.codes)
        if self.bits == 8:
            found = self.codes.view(np.int8).astype(np.float32)
        else:
            assert self.values is not None
            pairs = self.codes.reshape(outputs, -1, BLOCK)
            places = np.stack([pairs & 15, pairs >> 4], 2)
            found = self.values[places.reshape(outputs, -1)].astype(np.float32)
        blocks = found.reshape(outputs, -1, BLOCK) * self.scales.astype(np.float32)[..., None]
        return blocks.reshape(outputs, -1)


def can_be_coded(inputs: int) -> bool:
    """Whether weights of so many inputs can be codes."""
    return inputs % (2 * BLOCK) == 0


def coded(weights: np.ndarray, kind: Kind, bits: Bits, threads: int) -> Codes:
    """Weights [outputs, inputs] of a kind as the codes that come closest."""
    outputs, inputs = weights.shape
    codes = room(outputs * inputs * bits // 8, "bytes").reshape(outputs, -1)
    scales = room(outputs * inputs // BLOCK, "float16").reshape(outputs, -1)
    values = VALUES if bits == 4 else None
    library = kernels()
    assert library is not None
    weights = np.ascontiguousarray(weights)
    with common_pool() as pool:
        library.code_weights(
            pool.address, threads, weights.ctypes.data, KINDS[kind], outputs, inputs, FORMS[bits],
            None if values is None else values.ctypes.data, codes.ctypes.data, scales.ctypes.data,
        )  # fmt: skip
    return Codes(codes, scales, bits, values)
