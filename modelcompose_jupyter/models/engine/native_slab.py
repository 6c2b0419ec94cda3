"""Keys and values in C: each sequence has a slab of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..native.kept_layout import KeptLayout
from .kv_cache import Slab


class NativeSlab(Slab):
    """One row.

    Attributes:
        memory: uint8, as the layout has it.
    """

    def __init__(self, layout: KeptLayout, capacity: int, rows: int) -> None:
        self.layout: KeptLayout = layout
        super().__init__(capacity, rows)

    def allocate(self, rows: int) -> None:
        assert rows == 1, "each sequence has a slab of its own"
        self.memory = np.empty(self.capacity * self.layout.token_bytes, np.uint8)
        super().allocate(rows)

    def resize(self, rows: int) -> None:
        raise AssertionError("each sequence has a slab of its own")

    def kept(self, row: int, length: int) -> NativeSlab:
        """The slab itself, which nobody else gets."""
        return self

    def taken(self, row: int, length: int) -> NativeSlab:
        return self

    def put(self, row: int, kept: NativeSlab, length: int) -> None:
        for own, other in zip(self._tracks(), kept._tracks(), strict=True):
            own[:, :length] = other[:, :length]

    def clear(self, row: int) -> None:
        self.memory[:] = 0

    def _tracks(self) -> Iterator[np.ndarray]:
        """What each track has, [heads, capacity, record]."""
        start = 0
        for track in self.layout.tracks:
            end = start + track.bytes * self.capacity
            yield self.memory[start:end].reshape(track.heads, self.capacity, track.record)
            start = end
