"""What a decoder keeps of each token, and where."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Track(NamedTuple):
    """What so many heads keep of each token.

    Attributes:
        record: bytes of each head.
    """

    heads: int
    record: int

    @property
    def bytes(self) -> int:
        """For each token."""
        return self.heads * self.record


@dataclass(frozen=True)
class KeptLayout:
    """Where the tracks of a text stand in one piece of memory that has room for so many tokens.

    One after the other, each with all its tokens, then a state: the first token of a track is after
    ``capacity`` times the bytes of the tracks before it, as native.h says.

    Attributes:
        tracks: of all layers, in order; those of equal records together.
        state_bytes: what comes after them, whatever there is room for.
        device: on which it is.
    """

    tracks: Sequence[Track]
    state_bytes: int = 0
    device: str = "cpu"

    @classmethod
    def of(cls, tracks: Iterable[Track], state_bytes: int = 0) -> KeptLayout:
        """One of such tracks."""
        alike = itertools.groupby(tracks, key=lambda track: track.record)
        return cls(
            [Track(sum(t.heads for t in found), record) for record, found in alike], state_bytes
        )

    @property
    def token_bytes(self) -> int:
        """Bytes for each token."""
        return sum(track.bytes for track in self.tracks)
