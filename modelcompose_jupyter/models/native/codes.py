"""Weights of 8 and 4 bits: codes in blocks, with scales for each block.

They stand in records as native.h describes them: what the kernels read, in the order of reading.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .build import kernels
from .numbers import KINDS, Kind
from .threads import common_pool

BLOCK = 32
"""Inputs that share a scale."""
GROUP = 16
"""Outputs that stand side by side."""
_BLOCKS_IN_SUPER = 8


class Scaling(IntEnum):
    """What a weight is, by the integer v that its code says; as native.h numbers them.

    ``SCALE``: s v, with s in float16 for each block. ``MINIMUM``: s v - m, both in float16.
    ``ZERO_POINT``: s (v - z), with s in float16 and z of 8 bits, signed.
    ``SUPER``: S s v - M m, with s and m of 8 bits for each block, S and M in float16 for eight.
    ``HALVES``: S s v, with s of 8 bits, signed, for each half of a block.
    """

    SCALE = 0
    MINIMUM = 1
    ZERO_POINT = 2
    SUPER = 3
    HALVES = 4


class Form(NamedTuple):
    """How weights are stored as codes; ``bits`` is 8 or 4."""

    bits: int
    scaling: Scaling

    @property
    def number(self) -> int:
        """As native.h numbers them."""
        return 3 if self.bits == 8 else 4

    @property
    def codes(self) -> int:
        """Bytes of the codes of a record."""
        return GROUP * BLOCK * self.bits // 8

    @property
    def record(self) -> int:
        """Bytes of a record: its codes and what they are scaled with."""
        widths = {Scaling.MINIMUM: 4, Scaling.ZERO_POINT: 3}
        return self.codes + GROUP * widths.get(self.scaling, 2)

    def header(self, inputs: int) -> int:
        """Bytes of what stands before the records of a group."""
        supers = -(-_blocks(inputs) // _BLOCKS_IN_SUPER)
        return 4 * GROUP * supers if self.scaling >= Scaling.SUPER else 0

    def size(self, outputs: int, inputs: int) -> int:
        """Bytes of weights."""
        step = self.header(inputs) + _blocks(inputs) * self.record
        return -(-outputs // GROUP) * step


INT8 = Form(8, Scaling.SCALE)
"""What numbers become in 8 bits."""
INT4 = Form(4, Scaling.SUPER)
"""What numbers become in 4 bits."""

INTEGERS = np.arange(16, dtype=np.int8)
"""The values of codes of 4 bits that are integers themselves."""


def _blocks(inputs: int) -> int:
    return -(-inputs // BLOCK)


@dataclass(frozen=True, eq=False)
class Codes:
    """Weights [outputs, inputs] as codes.

    Attributes:
        stored: uint8 [groups, bytes of a group].
        values: int8 [16], which codes of 4 bits are places in.
    """

    stored: np.ndarray
    outputs: int
    inputs: int
    form: Form
    values: np.ndarray = field(default_factory=lambda: INTEGERS)

    @property
    def pairs(self) -> np.ndarray:
        """The codes of two inputs each, or of two and two others, uint16 [groups, blocks, pairs,
        GROUP]."""
        return self._part(np.uint16, 0, self.form.codes // (2 * GROUP))

    @property
    def scales(self) -> np.ndarray:
        """[groups, blocks, which, GROUP]: float16, or of 8 bits and unsigned with a header."""
        dtype = np.uint8 if self.form.scaling >= Scaling.SUPER else np.float16
        count = 1 if self.form.scaling in (Scaling.SCALE, Scaling.ZERO_POINT) else 2
        return self._part(dtype, self.form.codes, count)

    @property
    def zero_points(self) -> np.ndarray:
        """Of `Scaling.ZERO_POINT`, int8 [groups, blocks, 1, GROUP]."""
        return self._part(np.int8, self.form.codes + 2 * GROUP, 1)

    @property
    def supers(self) -> np.ndarray:
        """What the header has, float16 [groups, of how many blocks, which, GROUP]."""
        count = self.form.header(self.inputs) // (4 * GROUP)
        shape = (len(self.stored), count, 2, GROUP)
        strides = (self.stored.strides[0], 4 * GROUP, 2 * GROUP, 2)
        return np.ndarray(shape, np.float16, self.stored, 0, strides)

    def _part(self, dtype: type, start: int, count: int) -> np.ndarray:
        """Of each record, that from a byte on, [groups, blocks, count, GROUP]."""
        width = np.dtype(dtype).itemsize
        return np.ndarray(
            (len(self.stored), _blocks(self.inputs), count, GROUP), dtype, self.stored,
            self.form.header(self.inputs) + start,
            (self.stored.strides[0], self.form.record, GROUP * width, width),
        )  # fmt: skip

    def as_float32(self) -> np.ndarray:
        """What they stand for, [outputs, inputs]."""
        codes = np.ascontiguousarray(self.pairs).view(np.uint8)
        if self.form.bits == 8:
            found = codes.view(np.int8)
        else:
            found = self.values[np.concatenate([codes & 15, codes >> 4], axis=2)]
        groups, blocks = codes.shape[:2]
        halves = found.reshape(groups, blocks, 2, BLOCK // 4, GROUP, 2).astype(np.float32)
        factors, minima = self._factors()
        wide = halves * factors[:, :, :, None, :, None]
        if minima is not None:
            wide -= minima[:, :, None, None, :, None]
        whole: np.ndarray = wide.transpose(0, 4, 1, 2, 3, 5).reshape(groups * GROUP, -1)
        return whole[: self.outputs, : self.inputs]

    def _factors(self) -> tuple[np.ndarray, np.ndarray | None]:
        """What the halves of each block are multiplied by, float32 [groups, blocks, 2, GROUP], and
        what is taken away then, [groups, blocks, GROUP]."""
        scaling, scales = self.form.scaling, self.scales
        if scaling == Scaling.HALVES:
            scales = scales.view(np.int8)
        scales = scales.astype(np.float32)
        if scaling >= Scaling.SUPER:
            supers = self.supers.astype(np.float32).repeat(_BLOCKS_IN_SUPER, axis=1)
            supers = supers[:, : scales.shape[1]]
            scales = scales * (supers[:, :, :1] if scaling == Scaling.HALVES else supers)
        if scaling == Scaling.HALVES:
            return scales, None
        both = scales[:, :, [0, 0]]
        if scaling == Scaling.ZERO_POINT:
            return both, scales[:, :, 0] * self.zero_points[:, :, 0]
        return both, None if scaling == Scaling.SCALE else scales[:, :, 1]


def found(
    stored: np.ndarray, outputs: int, inputs: int, form: Form, values: np.ndarray = INTEGERS
) -> Codes:
    """Codes that are there, uint8 [`Form.size`]; or room for them."""
    return Codes(stored.reshape(-(-outputs // GROUP), -1), outputs, inputs, form, values)


def place(rows: np.ndarray, to: npt.NDArray[np.generic]) -> None:
    """Something of outputs, side by side with that of others, as `Codes` has it.

    Args:
        rows: [outputs, blocks, which].
        to: [groups, blocks, which, GROUP]; outputs that there are not become 0.
    """
    groups, count, pairs, _ = to.shape
    if len(rows) < groups * GROUP:
        whole = np.zeros((groups * GROUP, count, pairs), rows.dtype)
        whole[: len(rows)] = rows
        rows = whole
    to[...] = rows.reshape(groups, GROUP, count, pairs).transpose(0, 2, 3, 1)


def coded(weights: np.ndarray, kind: Kind, form: Form, room: np.ndarray, threads: int) -> Codes:
    """Weights [outputs, inputs] of a kind as the codes that come closest.

    Args:
        form: `INT8` or `INT4`.
        room: uint8 [`Form.size`], where they go.
    """
    made = found(room, weights.shape[0], weights.shape[1], form)
    library = kernels()
    assert library is not None
    weights = np.ascontiguousarray(weights)
    with common_pool() as pool:
        library.code_weights(
            pool.address, threads, weights.ctypes.data, KINDS[kind], made.outputs, made.inputs,
            form.number, made.stored.ctypes.data,
        )  # fmt: skip
    return made
