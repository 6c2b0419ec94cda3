"""Numbers that are stored in blocks with scales, as float32: exactly what they stand for.

Each type is a function from its blocks, uint8 [blocks, bytes], to their numbers, float32
[blocks, numbers], in the order and with the roundings of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ....errors import ModelError
from .container import TYPES, TensorType

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

IQ4_VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8
)
"""What the codes of IQ4_NL and IQ4_XS stand for: close to each other where weights are frequent."""
MXFP4_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)
"""Twice what the codes of MXFP4 stand for, which its scales are halved for."""


def dequantized(type: TensorType, blocks: Bytes) -> Floats:
    """What blocks of a type stand for.

    Args:
        blocks: uint8 [..., blocks, bytes].

    Returns:
        float32 [..., blocks, numbers].

    Raises:
        ModelError: nobody here knows this type.
    """
    function = _FUNCTIONS.get(type.name)
    if function is None:
        raise unsupported(type)
    shape = blocks.shape[:-1]
    found = function(np.ascontiguousarray(blocks).reshape(-1, type.size))
    return found.reshape(*shape, type.block)


def is_known(type: TensorType) -> bool:
    """Whether the numbers of a type can be read."""
    return type.name in _FUNCTIONS


def unsupported(type: TensorType) -> ModelError:
    """The error for a type that is not known here."""
    return ModelError(
        f"the weights are stored as {type.name}, which is not supported",
        hint=f"Take a file in one of these: {', '.join(_FUNCTIONS)}.",
        code="unsupported_format",
    )


def _f16(blocks: Bytes, place: int) -> Floats:
    """The float16 number at a place of each block, as float32 [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, place : place + 2]).view("<f2").astype(np.float32)


def _halves(packed: Bytes) -> Bytes:
    """Codes of 4 bits: the lower halves of all bytes, then the upper ones; uint8."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _bits(packed: Bytes, count: int) -> Bytes:
    """The first bits of each block, from the lowest on: uint8 [blocks, count]."""
    return np.unpackbits(packed, axis=-1, count=count, bitorder="little")


def _q4_0(blocks: Bytes) -> Floats:
    return _f16(blocks, 0) * (_halves(blocks[:, 2:]).astype(np.int8) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _f16(blocks, 0) * _halves(blocks[:, 4:]).astype(np.float32) + _f16(blocks, 2)


def five_bits(blocks: Bytes) -> npt.NDArray[np.int8]:
    """The codes of blocks of Q5_0, uint8 [..., bytes], as what they stand for [..., 32]."""
    codes = _halves(blocks[..., 6:]) | (_bits(blocks[..., 2:6], 32) << 4)
    return codes.astype(np.int8) - np.int8(16)


def _q5_0(blocks: Bytes) -> Floats:
    return _f16(blocks, 0) * five_bits(blocks)


def _q5_1(blocks: Bytes) -> Floats:
    codes = _halves(blocks[:, 8:]) | (_bits(blocks[:, 4:8], 32) << 4)
    return _f16(blocks, 0) * codes.astype(np.float32) + _f16(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _f16(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _iq4_nl(blocks: Bytes) -> Floats:
    return _f16(blocks, 0) * IQ4_VALUES[_halves(blocks[:, 2:])].astype(np.float32)


def mxfp4_scales(exponents: Bytes) -> Floats:
    """Powers of two by their exponents, uint8, halved; the smallest are subnormal."""
    exponents = exponents.astype(np.uint32)
    small = np.uint32(0x00200000) << np.minimum(exponents, 1)
    bits = np.where(exponents < 2, small, (np.maximum(exponents, 2) - 1) << 23)
    return bits.astype(np.uint32).view(np.float32)


def _mxfp4(blocks: Bytes) -> Floats:
    return mxfp4_scales(blocks[:, :1]) * MXFP4_VALUES[_halves(blocks[:, 1:])].astype(np.float32)


def _scales_of_k(packed: Bytes) -> tuple[Floats, Floats]:
    """Eight scales and eight minima of 6 bits each, in 12 bytes, as float32 [blocks, 8, 1]."""
    low, high, rest = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (rest & 15) | (low >> 6 << 4)], axis=-1)
    minima = np.concatenate([high & 63, (rest >> 4) | (high >> 6 << 4)], axis=-1)
    return scales.astype(np.float32)[..., None], minima.astype(np.float32)[..., None]


def _scaled_with_minima(blocks: Bytes, place: int, codes: Bytes) -> Floats:
    """Codes [blocks, 8, 32] by the scales and minima that stand at a place of their blocks."""
    scales, minima = _scales_of_k(blocks[:, place + 4 : place + 16])
    scale, minimum = _f16(blocks, place)[..., None], _f16(blocks, place + 2)[..., None]
    found = (scale * scales) * codes.astype(np.float32) - minimum * minima
    return found.reshape(len(blocks), -1)


def _pairs(packed: Bytes) -> Bytes:
    """Codes of 4 bits [blocks, 8, 32], of which bytes have one of a row and one of the next."""
    runs = packed.reshape(len(packed), 4, 1, 32)
    return np.concatenate([runs & 15, runs >> 4], axis=2).reshape(len(packed), 8, 32)


def _q4_k(blocks: Bytes) -> Floats:
    return _scaled_with_minima(blocks, 0, _pairs(blocks[:, 16:]))


def _q5_k(blocks: Bytes) -> Floats:
    places = np.arange(8, dtype=np.uint8)[None, :, None]
    high = (blocks[:, None, 16:48] >> places) & 1
    codes = (_pairs(blocks[:, 48:]) | (high << 4)).astype(np.uint8)
    return _scaled_with_minima(blocks, 0, codes)


def _q6_k(blocks: Bytes) -> Floats:
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts) & 3
    codes = ((low | (high << 4)).astype(np.int8) - 32).reshape(-1, 16, 16)
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32)[..., None]
    found = (_f16(blocks, 208)[..., None] * scales) * codes.astype(np.float32)
    return found.reshape(len(blocks), -1)


def _crumbs(packed: Bytes) -> Bytes:
    """Codes of 2 bits [blocks, 16, 16] in 64 bytes."""
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    codes = (packed.reshape(-1, 2, 1, 32) >> shifts) & 3
    return codes.reshape(-1, 16, 16).astype(np.uint8)


def _q2_k(blocks: Bytes) -> Floats:
    scales = (blocks[:, :16] & 15).astype(np.float32)[..., None]
    minima = (blocks[:, :16] >> 4).astype(np.float32)[..., None]
    codes = _crumbs(blocks[:, 16:80]).astype(np.float32)
    scale, minimum = _f16(blocks, 80)[..., None], _f16(blocks, 82)[..., None]
    found = (scale * scales) * codes - minimum * minima
    return found.reshape(len(blocks), -1)


def _q3_k(blocks: Bytes) -> Floats:
    packed = blocks[:, 96:108]
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = ((packed[:, None, 8:] >> shifts) & 3).reshape(-1, 16)
    scales = (_halves(packed[:, :8]) | (high << 4)).astype(np.int8) - 32
    places = np.arange(8, dtype=np.uint8)[None, :, None]
    is_whole = ((blocks[:, None, :32] >> places) & 1).reshape(-1, 16, 16)
    codes = _crumbs(blocks[:, 32:96]).astype(np.int8) - 4 * (1 - is_whole.astype(np.int8))
    scale = _f16(blocks, 108)[..., None] * scales.astype(np.float32)[..., None]
    return (scale * codes.astype(np.float32)).reshape(len(blocks), -1)


def _iq4_xs(blocks: Bytes) -> Floats:
    high = np.ascontiguousarray(blocks[:, 2:4]).view("<u2").astype(np.uint16)
    places = np.arange(8, dtype=np.uint16)
    low = blocks[:, 4:8][:, :, None] >> np.array([0, 4], np.uint8) & 15
    scales = low.reshape(-1, 8).astype(np.int16) | ((high >> 2 * places & 3) << 4).astype(np.int16)
    scale = _f16(blocks, 0) * (scales - 32).astype(np.float32)
    codes = _halves(blocks[:, 8:].reshape(-1, 8, 16))
    return (scale[..., None] * IQ4_VALUES[codes].astype(np.float32)).reshape(len(blocks), -1)


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32)


def _half(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


_FUNCTIONS: dict[str, Callable[[Bytes], Floats]] = {
    "F32": _f32, "F16": _half, "BF16": _bf16, "Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1,
    "Q5_0": _q5_0, "Q5_1": _q5_1, "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k,
    "Q6_K": _q6_k, "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs, "MXFP4": _mxfp4,
}  # fmt: skip
assert {each.name for each in TYPES.values()} >= set(_FUNCTIONS)
