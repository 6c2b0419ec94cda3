"""Bounds on JSON files that strangers wrote, checked before they are parsed.

A few kilobytes of JSON can make gigabytes of lists, or nest so deep that a parser ends its process.
So values and nesting are counted in the bytes, before anything is built of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from ...text_encoding import EncodingError, decode

_WINDOW = 1 << 20  # bytes looked at together, so that looking takes no memory to speak of
_LONGEST_NUMBER = 100
_NUMBER = re.compile(rb"[-+.0-9eE]{%d}" % (_LONGEST_NUMBER + 1))
_LONE_SURROGATE = re.compile(  # an escape that is half of a character without the other half
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_DEPTH_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_DEPTH_STEPS))
_MIB = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """What a file may hold at most.

    Attributes:
        size: bytes.
        values: in all its lists and mappings together; what each costs in memory is some 100 bytes.
        depth: of lists and mappings in each other.
    """

    size: int
    values: int
    depth: int = 100

    def check(self, size: int, values: int = 0, depth: int = 0) -> None:
        """Raise `OutOfBounds` for more than this."""
        for found, most, what in (
            (size, self.size, "bytes"),
            (values, self.values, "values"),
            (depth, self.depth, "levels of nesting"),
        ):
            if found > most:
                raise OutOfBounds(f"it has {found} {what}, and {most} at most are read")


SETTINGS = Bounds(32 * _MIB, 1_000_000)
"""Of config.json and its like: 10 kB, or some MB where a quantisation names each layer."""
INDEX = Bounds(128 * _MIB, 2_000_000)
"""Of the list of shards: 14 MB for the 140,000 tensors of the largest models."""
TOKENIZER = Bounds(256 * _MIB, 8_000_000)
"""Of a tokenizer's files: 60 MB and 3 million values for vocabularies of a million tokens."""
TEMPLATE = Bounds(_MIB, 0)
"""Of a chat template: 20 kB, 100 kB for the longest."""


class OutOfBounds(ValueError):
    """A file holds more than it may; says what, and how much that would be."""


class BrokenFile(ValueError):
    """A file is not what its format says; says how."""


def read_bytes(path: Path, bounds: Bounds) -> bytes:
    """A file's content; `OutOfBounds` where it is longer than it may be, or a pipe or a device."""
    size = checked_size(path, bounds)
    with path.open("rb") as file:
        data = file.read(size + 1)
    if len(data) > size:
        raise OutOfBounds("it grows while it is read")
    return data


def checked_size(path: Path, bounds: Bounds) -> int:
    """How many bytes a file has, with the same bounds."""
    size = path.stat().st_size
    if not path.is_file():
        raise OutOfBounds("it is not a file")
    bounds.check(size)
    return size


def parse_json(data: bytes, bounds: Bounds) -> Any:
    """JSON as plain data.

    Raises:
        OutOfBounds: it holds more than it may.
        BrokenFile: it is no JSON, or no text.
    """
    try:
        text = decode(data)
        check_json(text.encode("utf-8", "surrogatepass"), bounds)
        return json.loads(text)
    except RecursionError:  # of a reader whose own bound is less
        raise OutOfBounds("its lists and mappings are nested too deep") from None
    except (json.JSONDecodeError, EncodingError) as error:
        raise BrokenFile(f"it is not readable JSON: {error}") from None


def check_json(data: bytes, bounds: Bounds) -> None:
    """Raise `OutOfBounds` for JSON in UTF-8 of more values, levels or digits than may be.

    Takes time and memory in proportion to the text alone, whatever is in it. Values are counted by
    commas and opening brackets, those inside strings too: a few too many, never too few.
    """
    bounds.check(len(data), sum(data.count(sign) for sign in (b",", b"[", b"{")))
    plain = without_escapes(data)
    if rb"\u" in plain and _LONE_SURROGATE.search(plain):
        raise OutOfBounds("it has half a character, which no text has")
    outside = _outside_strings(plain)
    if found := _NUMBER.search(outside):
        length = len(found[0])
        raise OutOfBounds(f"it has a number of {length} digits or more")
    steps = map(_DEPTH_STEPS.__getitem__, outside.translate(None, _NO_BRACKETS))
    bounds.check(0, 0, max(accumulate(steps), default=0))


def without_escapes(data: bytes) -> bytes:
    """JSON of the same length in which each ``"`` begins or ends a string."""
    return data.replace(rb"\\", b"__").replace(rb"\"", b"__")


def _outside_strings(plain: bytes) -> bytes:
    """JSON without escapes, less what is inside its strings."""
    kept: list[bytes] = []
    inside = 0
    for start in range(0, len(plain), _WINDOW):
        parts = plain[start : start + _WINDOW].split(b'"')
        kept.append(b"".join(parts[inside::2]))
        inside ^= (len(parts) - 1) & 1
    return b"".join(kept)
