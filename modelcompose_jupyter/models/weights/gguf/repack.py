"""Codes of GGUF files as the kernels read them: the same codes and scales, in another order.

Nothing is rounded: the numbers that the codes stand for are those that the file's stand for. Codes
of 5 and 6 bits become integers of 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...native import codes
from ...native.codes import BLOCK, GROUP, INTEGERS, Codes, Form, Scaling
from .container import TensorType
from .dequantize import IQ4_VALUES, MXFP4_VALUES, Bytes, five_bits, mxfp4_scales

_AT_ONCE = 1 << 22  # bytes of a file that are put in order at once


class _Content(NamedTuple):
    """What is in some blocks of a file, [outputs, blocks of ours].

    Attributes:
        codes: uint8 [outputs, blocks, bytes], of 4 bits two in a byte as both formats have them.
        scales: [outputs, blocks, which], float16, or uint8 where there are others above.
        supers: float16 [outputs, of eight blocks, which].
    """

    codes: Bytes
    scales: np.ndarray
    supers: np.ndarray | None = None


class _Type(NamedTuple):
    form: Form
    read: Callable[[Bytes], _Content]
    values: np.ndarray = INTEGERS


def _half(blocks: Bytes, start: int) -> np.ndarray:
    """A float16 of each block, [outputs, blocks, 1]."""
    return np.ascontiguousarray(blocks[..., start : start + 2]).view("<f2")


def _q8_0(blocks: Bytes) -> _Content:
    return _Content(blocks[..., 2:], _half(blocks, 0))


def _q5_0(blocks: Bytes) -> _Content:
    return _Content(five_bits(blocks).view(np.uint8), _half(blocks, 0))


def _q4_0(blocks: Bytes) -> _Content:
    return _Content(blocks[..., 2:], _half(blocks, 0))


def _mxfp4(blocks: Bytes) -> _Content:
    return _Content(blocks[..., 1:], mxfp4_scales(blocks[..., :1]).astype("<f2"))


def _q4_1(blocks: Bytes) -> _Content:
    return _Content(blocks[..., 4:], _with_minima(blocks))


def _q5_1(blocks: Bytes) -> _Content:
    lower, upper = blocks[..., 8:], np.unpackbits(blocks[..., 4:8], axis=-1, bitorder="little")
    both = np.concatenate([lower & 15, lower >> 4], axis=-1) | upper << 4
    return _Content(both, _with_minima(blocks))


def _with_minima(blocks: Bytes) -> np.ndarray:
    """Scale and minimum of each block, which is added there and taken away here."""
    return np.concatenate([_half(blocks, 0), -_half(blocks, 2)], axis=-1)


def _q4_k(blocks: Bytes) -> _Content:
    outputs, count, _ = blocks.shape
    both = blocks[..., 16:].reshape(outputs, count, 4, BLOCK)
    wide = np.stack([both & 15, both >> 4], axis=3).reshape(outputs, count * 8, BLOCK)
    packed = wide[..., : BLOCK // 2] | wide[..., BLOCK // 2 :] << 4
    return _Content(packed, _k_scales(blocks), _k_supers(blocks))


def _q5_k(blocks: Bytes) -> _Content:
    outputs, count, _ = blocks.shape
    both = blocks[..., 48:].reshape(outputs, count, 4, BLOCK)
    lower = np.stack([both & 15, both >> 4], axis=3).reshape(outputs, count, 8, BLOCK)
    places = np.arange(8, dtype=np.uint8)[:, None]
    upper = blocks[..., None, 16:48] >> places & 1
    wide = (lower | upper << 4).reshape(outputs, count * 8, BLOCK)
    return _Content(wide, _k_scales(blocks), _k_supers(blocks))


def _k_scales(blocks: Bytes) -> Bytes:
    """Scale and minimum of each block of 32, of 6 bits, which stand in 12 bytes for 8 of them."""
    outputs, count, _ = blocks.shape
    first, second, rest = (blocks[..., 4 + at : 8 + at] for at in (0, 4, 8))
    scales = np.concatenate([first & 63, rest & 15 | (first >> 6) << 4], axis=-1)
    minima = np.concatenate([second & 63, rest >> 4 | (second >> 6) << 4], axis=-1)
    return np.stack([scales, minima], axis=-1).reshape(outputs, count * 8, 2)


def _k_supers(blocks: Bytes) -> np.ndarray:
    return np.ascontiguousarray(blocks[..., :4]).view("<f2")


def _q6_k(blocks: Bytes) -> _Content:
    outputs, count, _ = blocks.shape
    lower = blocks[..., :128].reshape(outputs, count, 2, 1, 64) >> _PLACES[:2] & 15
    upper = blocks[..., 128:192].reshape(outputs, count, 2, 1, BLOCK) >> _SHIFTS & 3
    lower = lower.reshape(outputs, count, 2, 4, BLOCK)
    wide = ((lower | upper << 4).view(np.int8) - np.int8(32)).view(np.uint8)
    scales = np.ascontiguousarray(blocks[..., 192:208]).reshape(outputs, count * 8, 2)
    super = _half(blocks, 208)
    both = np.concatenate([super, np.zeros_like(super)], axis=-1)
    return _Content(wide.reshape(outputs, count * 8, BLOCK), scales, both)


_PLACES = np.array([0, 4], np.uint8)[:, None]
_SHIFTS = np.array([0, 2, 4, 6], np.uint8)[:, None]

_TYPES = {
    "Q8_0": _Type(Form(8, Scaling.SCALE), _q8_0),
    "Q5_0": _Type(Form(8, Scaling.SCALE), _q5_0),
    "Q4_0": _Type(Form(4, Scaling.SCALE), _q4_0, np.arange(-8, 8, dtype=np.int8)),
    "IQ4_NL": _Type(Form(4, Scaling.SCALE), _q4_0, IQ4_VALUES),
    "MXFP4": _Type(Form(4, Scaling.SCALE), _mxfp4, MXFP4_VALUES),
    "Q4_1": _Type(Form(4, Scaling.MINIMUM), _q4_1),
    "Q5_1": _Type(Form(8, Scaling.MINIMUM), _q5_1),
    "Q4_K": _Type(Form(4, Scaling.SUPER), _q4_k),
    "Q5_K": _Type(Form(8, Scaling.SUPER), _q5_k),
    "Q6_K": _Type(Form(8, Scaling.HALVES), _q6_k),
}
FORMS = {name: each.form for name, each in _TYPES.items()}
"""What codes of a type become."""


def is_exact(type: TensorType, blocks: Bytes) -> bool:
    """Whether all scales of blocks, uint8 [outputs, blocks, bytes], are float16 numbers, too."""
    if type.name != "MXFP4":
        return True
    scales = mxfp4_scales(np.unique(blocks[..., 0]))
    with np.errstate(all="ignore"):
        return bool((scales.astype(np.float16) == scales).all())


def repacked(type: TensorType, blocks: Bytes, room: Bytes) -> Codes:
    """The blocks of a layer's weights as codes of ours.

    Args:
        blocks: uint8 [outputs, blocks, bytes], of a type of `FORMS`, `is_exact`.
        room: uint8 [`Form.size`], where they go.
    """
    outputs, count, _ = blocks.shape
    made = found(type, outputs, count * type.block, room)
    step = max(1, _AT_ONCE // (GROUP * count * type.size)) * GROUP
    for start in range(0, outputs, step):
        content = _TYPES[type.name].read(blocks[start : start + step])
        groups = slice(start // GROUP, -(-(start + step) // GROUP))
        packed = np.ascontiguousarray(content.codes).view(np.uint16)
        codes.place(packed, made.pairs[groups])
        codes.place(content.scales, made.scales[groups])
        if content.supers is not None:
            codes.place(content.supers, made.supers[groups])
    return made


def found(type: TensorType, outputs: int, inputs: int, room: Bytes) -> Codes:
    """Codes that are there, of such weights."""
    own = _TYPES[type.name]
    return codes.found(room, outputs, inputs, own.form, own.values)
