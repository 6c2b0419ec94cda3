"""The header of a safetensors file: what tensors are in it, before anything loads them."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .file_bounds import BrokenFile, without_escapes

LONGEST_HEADER = 100_000_000
"""Bytes, as in the format's own library; a mixture of experts with 100,000 tensors takes 13 MB."""
MOST_TENSORS = 1_000_000

_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_LARGEST = 1 << 63
# A tensor's entry is parsed by itself, so that no more is ever built than its few numbers. It has
# no braces inside its own, and no lists in lists.
_ENTRY = re.compile(rb'\s*"([^"]*+)"\s*:\s*(\{[^{}]{0,4000}\})\s*')
_METADATA = re.compile(
    rb'\s*"__metadata__"\s*:\s*(?:null|'
    rb'\{\s*(?:"[^"]*+"\s*:\s*"[^"]*+"\s*(?:,\s*(?=")|(?=\})))*+\})\s*'
)
_NESTED = re.compile(rb"\[[^\]]*\[|\d{20}")


class Tensor(NamedTuple):
    """What a header says of a tensor.

    Attributes:
        dtype: as the format calls it.
        begin: the place in the file where its numbers begin.
        size: bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def end_of_header(start: bytes, size: int) -> int:
    """Where the header ends of a file of so many bytes, by its first eight.

    Raises:
        BrokenFile: there is none, or it is longer than any.
    """
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else size
    if length + 8 > size:
        raise BrokenFile("its header is broken")
    if length > LONGEST_HEADER:
        raise BrokenFile(f"its header has {length} bytes, and {LONGEST_HEADER} at most are read")
    return int(length) + 8


def read(path: Path) -> list[Tensor]:
    """The tensors of a file, in the order of its header.

    Takes no more memory than the header and the list of tensors do, whatever is in it.

    Raises:
        BrokenFile: there is none; its tensors overlap, leave holes, or end elsewhere than the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = end_of_header(file.read(8), size) - 8
        header = file.read(length)
    tensors: list[Tensor] = []
    for name, entry in _entries(header):
        tensors.append(_tensor(name, entry, 8 + length))
        if len(tensors) > MOST_TENSORS:
            raise BrokenFile(f"it has more than {MOST_TENSORS} tensors")
    end = _end([(each.begin, each.begin + each.size) for each in tensors], 8 + length)
    if end != size:
        raise BrokenFile(f"it has {size} bytes and should have {end}")
    return tensors


def _entries(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name of each tensor, with what stands behind it."""
    names: set[bytes] = set()
    plain = without_escapes(header).rstrip()
    position = len(plain) - len(plain.lstrip()) + 1
    last = len(plain) - 1
    if last < 1 or plain[position - 1 : position] != b"{" or plain[last:] != b"}":
        raise BrokenFile("its header is broken")
    while position < last:
        metadata = _METADATA.match(plain, position)
        found = metadata or _ENTRY.match(plain, position)
        if found is None:
            if plain[position:last].isspace() and plain[position - 1] == ord("{"):
                return
            raise BrokenFile("its header is broken")
        if metadata is None:
            if (name := header[found.start(1) : found.end(1)]) in names:
                raise BrokenFile("two of its tensors have the same name")
            names.add(name)
            yield name, header[found.start(2) : found.end(2)]
        position = found.end()
        if position < last:
            if plain[position] != ord(","):
                raise BrokenFile("its header is broken")
            position += 1


def _tensor(quoted: bytes, entry: bytes, start: int) -> Tensor:
    """A tensor by its entry; ``start`` is where in the file all numbers begin."""
    try:
        if _NESTED.search(entry):
            raise BrokenFile("its header is broken")
        name, said = json.loads(b'"%s"' % quoted), json.loads(entry)
        dtype, shape, (begin, end) = said["dtype"], said["shape"], said["data_offsets"]
    except (ValueError, KeyError, TypeError):
        raise BrokenFile("its header is broken") from None
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise BrokenFile("its header is broken")
    if not all(map(_is_length, (*shape, begin, end))) or end < begin:
        raise BrokenFile("its header has lengths that are none")
    tensor = Tensor(name, dtype, tuple(shape), start + begin, end - begin)
    bits = _BITS.get(dtype)  # of those that newer versions add, only the bytes are known
    if bits is not None and tensor.elements * bits != 8 * tensor.size:
        raise BrokenFile(
            f"a tensor of {tensor.elements} numbers in {dtype} has {tensor.size} bytes in its"
            " header"
        )
    return tensor


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _end(spans: list[tuple[int, int]], end: int) -> int:
    """Where the last tensor ends, each of which begins where another one does."""
    for begin, after in sorted(spans):
        if begin != end:
            what = "overlap" if begin < end else "leave bytes between them"
            raise BrokenFile(f"its tensors {what}")
        end = after
    return end
