"""Keys and values in C: each sequence has a slab of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..native.kept_layout import KeptLayout
from .kv_cache import Slab, capacity_for

_ALIGNMENT = 64
"""Bytes that vectors are read by at once."""


class NativeSlab(Slab):
    """One row.

    Attributes:
        memory: uint8, as the layout has it.
        seen: how many tokens its state has seen. It cannot be taken back, nor be cut.
    """

    seen = 0

    def __init__(self, layout: KeptLayout, capacity: int, rows: int) -> None:
        self.layout: KeptLayout = layout
        super().__init__(capacity, rows)

    def allocate(self, rows: int) -> None:
        assert rows == 1, "each sequence has a slab of its own"
        size = self.capacity * self.layout.token_bytes + self.layout.state_bytes
        whole = np.empty(size + _ALIGNMENT, np.uint8)
        start = -whole.ctypes.data % _ALIGNMENT
        self.memory = whole[start : start + size]
        super().allocate(rows)

    def resize(self, rows: int) -> None:
        raise AssertionError("each sequence has a slab of its own")

    def kept(self, row: int, length: int) -> NativeSlab:
        """The slab itself, which nobody else gets."""
        return self

    def taken(self, row: int, length: int) -> NativeSlab:
        return self

    def copied(self, row: int, length: int) -> NativeSlab:
        copy = NativeSlab(self.layout, capacity_for(length), 1)
        copy.put(0, self, length)
        return copy

    def put(self, row: int, kept: NativeSlab, length: int) -> None:
        for own, other in zip(self._tracks(), kept._tracks(), strict=True):
            own[:, :length] = other[:, :length]
        self._state[:] = kept._state
        self.seen = kept.seen

    def clear(self, row: int) -> None:
        self.memory[:] = 0

    @property
    def _state(self) -> np.ndarray:
        return self.memory[self.memory.nbytes - self.layout.state_bytes :]

    def _tracks(self) -> Iterator[np.ndarray]:
        """What each track has, [heads, capacity, record]."""
        start = 0
        for track in self.layout.tracks:
            end = start + track.bytes * self.capacity
            yield self.memory[start:end].reshape(track.heads, self.capacity, track.record)
            start = end
