"""Codes of GGUF files as the kernels read them: the same codes and scales, in another order.

Nothing is rounded: the numbers that the codes stand for are those that the file's stand for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...native import codes
from ...native.codes import BLOCK, GROUP, Codes, Form
from .container import TensorType
from .dequantize import IQ4_VALUES, MXFP4_VALUES, Bytes, five_bits, mxfp4_scales

FORMS: dict[str, Form] = {
    "Q8_0": "int8", "Q5_0": "int8", "Q4_0": "int4", "IQ4_NL": "int4", "MXFP4": "int4",
}  # fmt: skip
"""What codes of a type become. The other types have minima beside their scales, or scales of their
own for less than a block."""
_VALUES = {
    "Q4_0": np.arange(-8, 8, dtype=np.int8), "IQ4_NL": IQ4_VALUES, "MXFP4": MXFP4_VALUES,
}  # fmt: skip
_AT_ONCE = 1 << 22  # bytes of a file that are put in order at once


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
        room: uint8 [`codes.size`], where they go.
    """
    outputs, count, _ = blocks.shape
    made = found(type, outputs, count * BLOCK, room)
    step = max(1, _AT_ONCE // (GROUP * count * type.size)) * GROUP
    for start in range(0, outputs, step):
        some = blocks[start : start + step]
        groups = -(-len(some) // GROUP)
        records = made.records[start // GROUP : start // GROUP + groups].view(np.uint16)
        width = records.shape[2] - GROUP
        packed, scales = _codes(type, some), _scales(type, some)
        _place(packed, records[..., :width].reshape(groups, count, -1, GROUP))
        _place(scales, records[..., width:].reshape(groups, count, 1, GROUP))
    return made


def found(type: TensorType, outputs: int, inputs: int, room: Bytes) -> Codes:
    """Codes that are there, of such weights."""
    form = FORMS[type.name]
    records = room.reshape(codes.shape(outputs, inputs, form))
    return Codes(records, outputs, inputs, form, _VALUES.get(type.name))


def _place(rows: Bytes, to: npt.NDArray[np.uint16]) -> None:
    """Pairs of bytes [outputs, blocks, 2 * pairs], side by side with those of other outputs.

    Args:
        to: [groups, blocks, pairs, GROUP]; outputs that there are not become 0.
    """
    groups, count, pairs, _ = to.shape
    own = np.ascontiguousarray(rows).view(np.uint16)
    if len(own) < groups * GROUP:
        whole = np.zeros((groups * GROUP, count, pairs), np.uint16)
        whole[: len(own)] = own
        own = whole
    to[...] = own.reshape(groups, GROUP, count, pairs).transpose(0, 2, 3, 1)


def _codes(type: TensorType, blocks: Bytes) -> Bytes:
    """Codes of 8 bits as int8 says them; of 4 bits two in a byte, as both formats have them."""
    if type.name == "Q5_0":
        return five_bits(blocks).view(np.uint8)
    return blocks[..., 1 if type.name == "MXFP4" else 2 :]


def _scales(type: TensorType, blocks: Bytes) -> Bytes:
    """Scales in float16, two bytes each."""
    if type.name != "MXFP4":
        return blocks[..., :2]
    return mxfp4_scales(blocks[..., :1]).astype("<f2").view(np.uint8)
