"""The tensors of a layer whose weights are stored quantised, as one tensor of weights.

A weight is s (q - z), with a code q of 4 or 8 bits, and a scale s and a zero point z that inputs
of an output share, by groups. What is in the kernels' order then is without loss: v = q - middle,
so that zero points are near 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...native import codes, numbers
from ...native.codes import BLOCK, GROUP, Codes, Form, Scaling
from ...native.linear import room as room_of
from ...native.numbers import Kind
from .. import files
from ..file_bounds import BrokenFile
from ..gguf.dequantize import MXFP4_VALUES, mxfp4_scales
from ..safetensors_header import Tensor
from ..stored_tensors import FileTensor, StoredTensor, in_parts

_ROUNDED = 2.0**-11
"""The most that float16 is off, of numbers that are not too small for it."""
_AT_ONCE = 1 << 20  # numbers that a thread works on at once
_AWQ_ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])
"""Which of the eight codes in a word belongs to each of eight outputs."""
_AROUND_ZERO = np.arange(-8, 8, dtype=np.int8)
"""What codes of 4 bits stand for."""


@dataclass(frozen=True)
class QuantizedTensor(StoredTensor):
    """The weights of a layer.

    Attributes:
        path: of the file with the codes.
        stored: the codes.
        whole: outputs and inputs.
        method: what people call it.
        bits: of a code.
        groups: of inputs.
        scales: of the groups.
        zeros: their zero points; None where there are none.
        order: the group of each input; None where each has as many inputs, one after the other.
        symmetric: whether all zero points are in the middle.
    """

    path: Path
    stored: Tensor
    whole: tuple[int, int]
    method: str
    bits: int
    groups: int
    scales: FileTensor
    zeros: FileTensor | None = None
    order: FileTensor | None = None
    symmetric: bool = False

    @property
    def kind(self) -> Kind | None:
        return None

    @property
    def type_name(self) -> str:
        rounds = self.form is not None and self.scales.stored.dtype == "F32"
        return f"{self.method}, rounded scales" if rounds else self.method

    @property
    def shape(self) -> tuple[int, ...]:
        return self.whole

    @property
    def elements(self) -> int:
        return math.prod(self.whole)

    def stays(self, kind: Kind) -> bool:
        return False

    @property
    def form(self) -> Form | None:
        """None where inputs of one block are of several groups."""
        if self._blocks is None:
            return None
        has_zeros = self.zeros is not None and not self.symmetric
        return Form(self.bits, Scaling.ZERO_POINT if has_zeros else Scaling.SCALE)

    @property
    def values(self) -> np.ndarray:
        """What codes of 4 bits stand for."""
        return _AROUND_ZERO

    def numbers(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        outputs, inputs = self.whole
        groups, scales, zeros = self._groups(), self._checked_scales(), self._checked_zeros()
        found = room_of(self.elements, kind).reshape(self.whole)
        step = max(1, _AT_ONCE // inputs)

        def convert(start: int) -> None:
            rows = slice(start, min(start + step, outputs))
            wide = self._values(self._codes(raw, rows)).astype(np.float32)
            if zeros is not None:
                wide -= zeros[rows][:, groups]
            with np.errstate(over="ignore"):  # a damaged file may have scales that are too large
                wide *= scales[rows][:, groups]
                found[rows] = numbers.converted(wide, "float32", kind)

        in_parts(convert, range(0, outputs, step))
        return found

    def has_exact_codes(self, raw: np.ndarray) -> bool:
        """But for scales in float32, which are rounded unless they are too small for it."""
        if self.form is None or self.scales.stored.dtype == "F16":
            return self.form is not None
        scales = self._checked_scales()
        with np.errstate(over="ignore"):
            off = np.abs(scales.astype(np.float16) - scales)
        most = _ROUNDED * np.abs(scales) if self.scales.stored.dtype == "F32" else 0
        return bool((off <= most).all())

    def codes(self, raw: np.ndarray, rows: slice, room: np.ndarray) -> Codes:
        outputs, inputs = rows.stop - rows.start, self.whole[1]
        made = self.kept_codes(rows, room)
        blocks, scales, zeros = self._blocks, self._checked_scales(), self._checked_zeros()
        step = max(1, _AT_ONCE // (GROUP * inputs)) * GROUP

        def repack(start: int) -> None:
            own = slice(rows.start + start, rows.start + min(start + step, outputs))
            to = slice(start // GROUP, -(-(start + step) // GROUP))
            packed = self._packed(self._codes(raw, own))
            codes.place(packed.view(np.uint16), made.pairs[to])
            codes.place(scales[own][:, blocks, None].astype(np.float16), made.scales[to])
            if zeros is not None:
                codes.place(zeros[own][:, blocks, None], made.zero_points[to])

        in_parts(repack, range(0, outputs, step))
        return made

    def kept_codes(self, rows: slice, room: np.ndarray) -> Codes:
        assert self.form is not None
        return codes.found(room, rows.stop - rows.start, self.whole[1], self.form, self.values)

    def _values(self, codes: np.ndarray) -> np.ndarray:
        """What codes stand for, int8."""
        return self.values[codes] if self.bits == 4 else (codes ^ 0x80).view(np.int8)

    def _packed(self, codes: np.ndarray) -> np.ndarray:
        """Codes [outputs, inputs] as `Codes` has them, uint8 [outputs, blocks, bytes]."""
        outputs, inputs = codes.shape
        if self.bits == 8:
            codes = codes ^ 0x80
        if inputs % BLOCK:
            codes = np.pad(codes, ((0, 0), (0, -inputs % BLOCK)))
        blocks = np.ascontiguousarray(codes).reshape(outputs, -1, BLOCK)
        if self.bits == 8:
            return blocks
        half = BLOCK // 2
        packed: np.ndarray = blocks[..., :half] | blocks[..., half:] << 4
        return packed

    @cached_property
    def _blocks(self) -> np.ndarray | None:
        """The group of each block; None where inputs of one are of several groups."""
        padded = np.pad(self._groups(), (0, -self.whole[1] % BLOCK), mode="edge")
        each = padded.reshape(-1, BLOCK)
        return each[:, 0].copy() if (each == each[:, :1]).all() else None

    def _groups(self) -> np.ndarray:
        """The group of each input."""
        if self.order is None:
            return np.arange(self.whole[1]) // (self.whole[1] // self.groups)
        found = self.order.read().view("<i4")
        with files.checked(self.order.path):
            if found.min() < 0 or found.max() >= self.groups:
                raise BrokenFile(f"its {self.order.stored.name} has groups that there are not")
        return found

    def _checked_scales(self) -> np.ndarray:
        """float32 [outputs, groups]."""
        return _finite(self.scales, self._scales())

    def _checked_zeros(self) -> np.ndarray | None:
        """int8 [outputs, groups], less the middle of the codes; None where all are in it."""
        if self.zeros is None:
            return None
        zeros = self._zeros(self.zeros)
        with files.checked(self.zeros.path):
            if self.symmetric and zeros.any():
                raise BrokenFile(
                    f"its {self.zeros.stored.name} has zero points that are not in the middle,"
                    " and its config.json says that they are"
                )
        return None if self.symmetric else zeros

    @abstractmethod
    def _codes(self, raw: np.ndarray, rows: slice) -> np.ndarray:
        """Those of some outputs, uint8 [outputs, inputs]."""

    def _scales(self) -> np.ndarray:
        """float32 [outputs, groups]."""
        return np.broadcast_to(
            self.scales.float32().reshape(-1, self.groups), (self.whole[0], self.groups)
        )

    def _zeros(self, zeros: FileTensor) -> np.ndarray:
        """int8 [outputs, groups], less the middle of the codes."""
        raise AssertionError("it has none")


@dataclass(frozen=True)
class GptqTensor(QuantizedTensor):
    """Of GPTQ: words of codes of inputs, for each output.

    Scales are [groups, outputs], and so are zero points, which are words of several outputs.

    Attributes:
        zero_offset: what is to be added to zero points.
    """

    zero_offset: int = 0

    def _codes(self, raw: np.ndarray, rows: slice) -> np.ndarray:
        words = raw.view("<u4").reshape(-1, self.whole[0])
        return _unpacked(words[:, rows].T, self.bits)

    def _scales(self) -> np.ndarray:
        return self.scales.float32().reshape(self.groups, -1).T

    def _zeros(self, zeros: FileTensor) -> np.ndarray:
        # Whoever took 1 off took it off words, and of what was 0 borrowed from the next.
        words = zeros.read().view("<u4") + np.uint32(self.zero_offset * _ONES[self.bits])
        found = _unpacked(words.reshape(self.groups, -1), self.bits)
        return _from_middle(found[:, : self.whole[0]].T, self.bits)


@dataclass(frozen=True)
class AwqTensor(QuantizedTensor):
    """Of AWQ: words of codes of outputs in an order of their own, for each input.

    Scales and zero points are [groups, outputs].
    """

    def _codes(self, raw: np.ndarray, rows: slice) -> np.ndarray:
        words = raw.view("<u4").reshape(self.whole[1], -1)
        first, last = rows.start // 8, -(-rows.stop // 8)
        found = _in_order(words[:, first:last])
        return found[:, rows.start - 8 * first : rows.stop - 8 * first].T

    def _scales(self) -> np.ndarray:
        return self.scales.float32().reshape(self.groups, -1).T

    def _zeros(self, zeros: FileTensor) -> np.ndarray:
        words = zeros.read().view("<u4").reshape(self.groups, -1)
        return _from_middle(_in_order(words).T, self.bits)


@dataclass(frozen=True)
class PackedTensor(QuantizedTensor):
    """Of compressed-tensors: words of codes of inputs, or of FP4 two in a byte, row by row.

    Zero points are words of several outputs, [outputs, groups].
    """

    def _codes(self, raw: np.ndarray, rows: slice) -> np.ndarray:
        words = raw.reshape(self.whole[0], -1)
        return _unpacked(words[rows], self.bits)[:, : self.whole[1]]

    def _zeros(self, zeros: FileTensor) -> np.ndarray:
        words = zeros.read().view("<u4").reshape(-1, self.groups)
        return _from_middle(_unpacked(words.T, self.bits)[:, : self.whole[0]].T, self.bits)


@dataclass(frozen=True)
class Fp4Tensor(PackedTensor):
    """Of compressed-tensors in MXFP4: scales are powers of 2."""

    @property
    def values(self) -> np.ndarray:
        return MXFP4_VALUES

    def _scales(self) -> np.ndarray:
        exponents = self.scales.read()
        scales = np.where(exponents == 255, np.float32(np.nan), mxfp4_scales(exponents))
        return scales.reshape(self.whole[0], self.groups)


@dataclass(frozen=True)
class IntegerTensor(QuantizedTensor):
    """Of compressed-tensors: integers of 8 bits, [outputs, inputs]; zero points are such, too."""

    def _codes(self, raw: np.ndarray, rows: slice) -> np.ndarray:
        return raw.reshape(self.whole)[rows] ^ np.uint8(0x80)

    def _zeros(self, zeros: FileTensor) -> np.ndarray:
        found = zeros.read().view(np.int8).reshape(-1, self.groups)
        return np.broadcast_to(found, (self.whole[0], self.groups))


@dataclass(frozen=True)
class Fp8Tensor(StoredTensor):
    """Numbers of 8 bits, E4M3, whose blocks have scales. There are no codes for them.

    Attributes:
        block: how many outputs and inputs share a scale.
    """

    stored: Tensor
    method: str
    scales: FileTensor
    block: tuple[int, int]

    @property
    def kind(self) -> Kind | None:
        return None

    @property
    def type_name(self) -> str:
        return self.method

    def stays(self, kind: Kind) -> bool:
        return False

    def numbers(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        outputs, inputs = self.shape
        high, wide = self.block
        scales = _finite(self.scales, self.scales.float32()).reshape(-1, -(-inputs // wide))
        found = room_of(self.elements, kind).reshape(self.shape)
        step = max(1, _AT_ONCE // inputs)

        def convert(start: int) -> None:
            rows = slice(start, min(start + step, outputs))
            own = scales[np.arange(outputs)[rows] // high].repeat(wide, axis=1)[:, :inputs]
            with np.errstate(all="ignore"):  # a damaged file may have what is no number
                values = _E4M3[raw.reshape(self.shape)[rows]] * own
                found[rows] = numbers.converted(values, "float32", kind)

        in_parts(convert, range(0, outputs, step))
        return found


def _finite(tensor: FileTensor, scales: np.ndarray) -> np.ndarray:
    with files.checked(tensor.path):
        if not np.isfinite(scales).all():
            raise BrokenFile(f"its {tensor.stored.name} has scales that are no numbers")
    return scales


def _e4m3() -> np.ndarray:
    """What numbers of 8 bits with 4 of the exponent and 3 of the fraction are, float32 [256]."""
    bits = np.arange(256)
    exponents, fractions = bits >> 3 & 15, bits & 7
    sizes = np.where(exponents == 0, fractions * 2.0**-9, (8 + fractions) * 2.0 ** (exponents - 10))
    sizes[[127, 255]] = np.nan
    return np.where(bits < 128, sizes, -sizes).astype(np.float32)


_E4M3 = _e4m3()
_ONES = {4: 0x11111111, 8: 0x01010101}
"""Words of codes that are all 1."""


def _unpacked(words: np.ndarray, bits: int) -> np.ndarray:
    """Codes, the lowest bits of a word first: uint8 [rows, codes]."""
    small = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return small
    found = np.empty((*small.shape, 2), np.uint8)
    found[..., 0], found[..., 1] = small & 15, small >> 4
    return found.reshape(len(small), -1)


def _in_order(words: np.ndarray) -> np.ndarray:
    """AWQ's codes in the order of outputs."""
    found = _unpacked(words, 4)
    return found.reshape(len(found), -1, 8)[..., _AWQ_ORDER].reshape(found.shape)


def _from_middle(codes: np.ndarray, bits: int) -> np.ndarray:
    return (codes - np.uint8(1 << (bits - 1))).view(np.int8)
