"""The container of a GGUF file: its metadata, and what tensors are in it.

A file is a stranger's. Every length, count and offset in it is held against what is left of the
file before anything is read or made by it, so that no file takes more memory than its header does.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..file_bounds import BrokenFile, OutOfBounds

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""Of the format that are read; 3 differs from 2 in that there are big-endian files as well."""
LONGEST_HEADER = 256 << 20
"""Bytes; that of Gemma 3, whose vocabulary has 262,144 tokens, takes 15 MB."""
MOST_VALUES = 8_000_000
"""Of all lists in the metadata together; tokens, scores, types and merges take some 800,000."""
MOST_TENSORS = 100_000
"""The largest models have 2,000."""
MOST_DIMENSIONS = 4
LONGEST_NAME = 1024
"""Bytes of a key or the name of a tensor; llama.cpp takes 64."""
_LARGEST_ALIGNMENT = 1 << 16
_LARGEST = 1 << 62
_WINDOW = 1 << 20

_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8",
    12: "<f8",
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9

Value = int | float | bool | str | list[str] | np.ndarray
"""Of a key: a list of numbers is an array."""


class TensorType(NamedTuple):
    """How the numbers of a tensor are stored: in blocks of so many, which take so many bytes."""

    name: str
    block: int
    size: int


TYPES = {
    0: TensorType("F32", 1, 4), 1: TensorType("F16", 1, 2), 30: TensorType("BF16", 1, 2),
    2: TensorType("Q4_0", 32, 18), 3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22), 7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    10: TensorType("Q2_K", 256, 84), 11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144), 13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    16: TensorType("IQ2_XXS", 256, 66), 17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98), 19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18), 21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82), 23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1), 25: TensorType("I16", 1, 2), 26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8), 28: TensorType("F64", 1, 8), 29: TensorType("IQ1_M", 256, 56),
    34: TensorType("TQ1_0", 256, 54), 35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17), 40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
}  # fmt: skip
"""By the numbers that files have. (Q8_1 and Q8_K are of products alone, never in a file.)"""


class Tensor(NamedTuple):
    """What a file says of a tensor.

    Attributes:
        shape: the last number is the one whose neighbours are side by side.
        type: how its numbers are stored.
        begin: the place in the file where they begin.
        size: bytes.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    begin: int
    size: int

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Container:
    """What is in a file."""

    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]


def read(path: Path) -> Container:
    """What a file says of itself.

    Raises:
        BrokenFile: it is no GGUF file, damaged, cut short, or of another version.
        OutOfBounds: it has more than any model's file.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise OutOfBounds("it is not a file")
    with path.open("rb") as file:
        size = path.stat().st_size
        header = _Header(file, size)
        if header.take(4) != MAGIC:
            raise BrokenFile("it does not begin as a GGUF file does")
        version = header.number("<u4")
        if version not in VERSIONS:
            if version == 3 << 24 or version == 2 << 24:
                raise BrokenFile("its numbers are big-endian, which is not supported")
            raise BrokenFile(f"it is of version {version} of GGUF; 2 and 3 are read")
        tensors, keys = header.number("<u8"), header.number("<u8")
        header.check_count(tensors, 24, MOST_TENSORS, "tensors")
        header.check_count(keys, 13, MOST_VALUES, "keys")
        metadata = _metadata(header, int(keys))
        found = [_info(header) for _ in range(int(tensors))]
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not _is_alignment(alignment):
            raise BrokenFile("its general.alignment is none")
        start = -(-header.position // alignment) * alignment
        return Container(metadata, _placed(found, start, alignment, size))


def _is_alignment(value: int) -> bool:
    return 1 <= value <= _LARGEST_ALIGNMENT and value & (value - 1) == 0


class _Header:
    """The beginning of a file, read piece by piece as far as it is asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._data = b""
        self.position = 0
        self._values = 0

    @property
    def left(self) -> int:
        """Bytes of the file behind what was read."""
        return self._size - self.position

    def reach(self, length: int) -> bytes:
        """What was read, and so many bytes more."""
        end = self.position + length
        if end > self._size:
            raise BrokenFile("it ends in the middle of its header")
        if end > LONGEST_HEADER:
            raise OutOfBounds(f"its header has more than {LONGEST_HEADER} bytes")
        if end > len(self._data):
            # Twice as much each time, so that a long one is not copied again and again.
            wanted = min(self._size, LONGEST_HEADER, max(end, 2 * len(self._data), _WINDOW))
            self._data += self._file.read(wanted - len(self._data))
            if end > len(self._data):
                raise BrokenFile("it ends in the middle of its header")
        return self._data

    def take(self, length: int) -> bytes:
        """The next bytes."""
        data = self.reach(length)
        self.position += length
        return data[self.position - length : self.position]

    def number(self, dtype: str) -> Any:
        """The next number."""
        return np.frombuffer(self.take(int(dtype[2])), dtype)[0].item()

    def check_count(self, count: int, least: int, most: int, what: str) -> None:
        """Refuse more of something than may be, or than what is left can hold."""
        if count > most:
            raise OutOfBounds(f"it has {count} {what}, and {most} at most are read")
        if count * least > self.left:
            raise BrokenFile(f"it is too short for its {count} {what}")

    def text(self, longest: int | None = None) -> str:
        """The next string."""
        length = self.number("<u8")
        if length > self.left or (longest is not None and length > longest):
            raise BrokenFile(f"it has a text of {length} bytes where there can be none")
        return _decoded([self.take(length)])[0]

    def value(self) -> Value:
        """The next value of a key."""
        kind = self.number("<u4")
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])  # type: ignore[no-any-return]
        if kind == _BOOL:
            return self._bool(self.number("<u1"))
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        raise BrokenFile(f"it has a value of the kind {kind}, which there is not")

    @staticmethod
    def _bool(value: int) -> bool:
        if value > 1:
            raise BrokenFile(f"it has a truth value that is {value}")
        return bool(value)

    def _array(self) -> Value:
        kind, count = self.number("<u4"), self.number("<u8")
        dtype = np.dtype(_NUMBERS.get(kind, "<u1"))
        self._values += count
        self.check_count(self._values, 0, MOST_VALUES, "values in lists")
        if kind in _NUMBERS or kind == _BOOL:
            self.check_count(count, dtype.itemsize, MOST_VALUES, "values")
            found = np.frombuffer(self.take(count * dtype.itemsize), dtype)
            return found.astype(bool) if kind == _BOOL else found
        if kind == _STRING:
            self.check_count(count, 8, MOST_VALUES, "texts")
            return self._texts(count)
        raise BrokenFile("it has a list of lists, or of values that there are not")

    def _texts(self, count: int) -> list[str]:
        """Many strings; that of a vocabulary has some hundred thousand, so it is a tight loop."""
        read = struct.Struct("<Q").unpack_from
        found = []
        data, position, known = self._data, self.position, len(self._data)
        for _ in range(count):
            if position + 8 > known:
                self.position = position
                data = self.reach(8)
                known = len(data)
            length = read(data, position)[0]
            position += 8
            end = position + length
            if end > known:
                self.position = position
                data = self.reach(length)
                known = len(data)
            found.append(data[position:end])
            position = end
        self.position = position
        return _decoded(found)


def _decoded(found: list[bytes]) -> list[str]:
    try:
        return [each.decode() for each in found]
    except UnicodeDecodeError:
        raise BrokenFile("it has a text that is not UTF-8") from None


def _metadata(header: _Header, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = header.text(LONGEST_NAME)
        if key in metadata:
            raise BrokenFile("two of its keys have the same name")
        metadata[key] = header.value()
    return metadata


class _Info(NamedTuple):
    """What a table of tensors says of one; its offset counts from where all numbers begin."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int


def _info(header: _Header) -> _Info:
    name = header.text(LONGEST_NAME)
    dimensions = header.number("<u4")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise BrokenFile(f"a tensor has {dimensions} dimensions")
    lengths = [header.number("<u8") for _ in range(dimensions)]
    if math.prod(lengths) >= _LARGEST or not all(lengths):
        raise BrokenFile("the dimensions of a tensor cannot be")
    kind, offset = header.number("<u4"), header.number("<u8")
    if kind not in TYPES:
        raise BrokenFile(f"a tensor is of the type {kind}, which is not known")
    if lengths[0] % TYPES[kind].block:
        raise BrokenFile(f"a tensor has rows of {lengths[0]} numbers in {TYPES[kind].name}")
    return _Info(name, tuple(reversed(lengths)), TYPES[kind], offset)


def _placed(found: list[_Info], start: int, alignment: int, size: int) -> tuple[Tensor, ...]:
    """Tensors with their places in the file; none may overlap, or leave it."""
    if len({each.name for each in found}) != len(found):
        raise BrokenFile("two of its tensors have the same name")
    tensors = []
    for name, shape, kind, offset in found:
        length = math.prod(shape) // kind.block * kind.size
        if offset % alignment:
            raise BrokenFile("a tensor begins where none may")
        if start + offset + length > size:
            raise BrokenFile(f"it has {size} bytes, and its tensors need more: it was cut short")
        tensors.append(Tensor(name, shape, kind, start + offset, length))
    end = start
    for each in sorted(tensors, key=lambda tensor: tensor.begin):
        if each.begin < end:
            raise BrokenFile("its tensors overlap")
        end = each.begin + each.size
    return tuple(tensors)
