"""Weights in 8 and 4 bits: which of a decoder's get how many, and the file that keeps them."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from ...redaction import get_logger
from .. import disk_cache
from ..native.codes import INT4, INT8, Form
from ..spec import Quantization
from .decoder_parts import Role

_KIND = "weights"
_VERSION = 1
"""Of the way in which numbers become codes, and of the order in the file."""
_MOST = 32 << 30
"""Bytes of all files that are kept."""
_LEAST_FREE = 4 << 30
"""Bytes of the disk that a new file leaves."""
_ALIGNMENT = 64

log = get_logger(__name__)


def form_of(role: Role, layer: int | None, layers: int, quantization: Quantization) -> Form:
    """How many bits the weights of a linear layer get.

    With 4 bits for most, those that are worth more have 8: the head; keys and values, what layers
    get of a token by itself, and rates, which are few; and what ends the MLP in the first and the
    last layers, where errors count most.

    Args:
        layer: which of ``layers`` it is in; None for the head.
    """
    if quantization == "int8" or layer is None or role in ("keys", "values", "inputs", "rates"):
        return INT8
    at_ends = min(layer, layers - 1 - layer) < max(1, layers // 8)
    return INT8 if role == "down" and at_ends else INT4


class PackedWeights:
    """Room for codes: in a file that later loads find filled, or in memory where none can be kept.

    Args:
        sizes: bytes of all pieces, by name.
        made_from: what the codes depend on, as JSON would say it.

    Attributes:
        is_filled: whether the codes are there.
        is_mapped: whether they are in a file.
        path: of the file in which they are.
    """

    def __init__(self, sizes: Mapping[str, int], made_from: object) -> None:
        places = [0, *accumulate(map(_aligned, sizes.values()))]
        size = max(1, places.pop())
        key = hashlib.sha256(repr((_VERSION, made_from)).encode())
        self._name = f"{_KIND}-{key.hexdigest()[:32]}"
        self._pieces = {
            name: (at, count) for (name, count), at in zip(sizes.items(), places, strict=True)
        }
        self._unfinished: disk_cache.UnfinishedFile | None = None
        found = disk_cache.find_mapped(self._name, size)
        self.is_filled = found is not None
        self.path = None if found is None else found.path
        self._content: mmap.mmap
        if found is not None:
            self._content = found.content
        else:
            self._content = self._room(size)
        self.is_mapped = found is not None or self._unfinished is not None

    def _room(self, size: int) -> mmap.mmap:
        try:
            self._unfinished = disk_cache.UnfinishedFile(self._name, size, _LEAST_FREE)
        except OSError as error:
            log.info("weights in few bits are not kept: %s", error)
            return mmap.mmap(-1, size)
        return self._unfinished.content

    def piece(self, name: str) -> np.ndarray:
        """That of a name, uint8."""
        at, size = self._pieces[name]
        return np.frombuffer(self._content, np.uint8, size, at)

    def keep(self) -> None:
        """All is filled: have later loads find it."""
        if self._unfinished is not None:
            self._unfinished.keep(_MOST)


def kept_bytes() -> int:
    """What all files that are kept take on the disk."""
    return sum(each.st_size for each in disk_cache.kept(_KIND).values())


def discard() -> int:
    """Remove all files that are kept, and say how many bytes they had.

    Models in memory go on: their files are gone from the disk once they are unloaded.
    """
    disk_cache.clear_away()
    freed = kept_bytes()
    while paths := disk_cache.kept(_KIND):  # one may get its other name meanwhile
        for path in paths:
            path.unlink(missing_ok=True)
    return freed


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
