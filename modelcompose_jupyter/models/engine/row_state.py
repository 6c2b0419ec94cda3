"""What a sampler knows of one sequence: a row of the scores of a step."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np

from .rng import draws
from .sampling_params import SamplingParams

_AHEAD = 64
"""How many of a row's random numbers are drawn at once: making the generator costs most."""


class RowState:
    """A row of scores.

    Attributes:
        params: of the sequence's request.
        sequence: which of the request's sequences it is, from 0.
        position: how many tokens it has generated.
    """

    __slots__ = ("_first", "_numbers", "_seen", "params", "position", "sequence")

    def __init__(self, params: SamplingParams, sequence: int) -> None:
        self.params = params
        self.sequence = sequence
        self.position = 0
        self._seen = _Seen(params.tokens) if params.repetition_penalty != 1.0 else None
        self._first = 0
        self._numbers: list[float] = []

    def add(self, token: int) -> None:
        """Take the token that was chosen."""
        self.position += 1
        if self._seen is not None:
            self._seen.add(token)

    def after(self, tokens: Iterable[int]) -> RowState:
        """A copy of this row, with further tokens."""
        row = copy.copy(self)
        row._seen = copy.copy(self._seen)
        for token in tokens:
            row.add(token)
        return row

    @property
    def number(self) -> float:
        """The random number in [0, 1) for the next token: `rng.draw`'s."""
        ahead = self.position - self._first
        if not 0 <= ahead < len(self._numbers):
            ahead, self._first = 0, self.position
            self._numbers = draws(self.params.seed, self.sequence, self._first, _AHEAD)
        return self._numbers[ahead]

    @property
    def seen(self) -> np.ndarray | None:
        """The distinct tokens so far, int64; None where no penalty needs them."""
        return None if self._seen is None else self._seen.ids

    @property
    def must_go_on(self) -> bool:
        """Whether the sequence is too short to end with its next token."""
        length = len(self.params.tokens) + self.position
        return self.position < self.params.min_new_tokens or length < self.params.min_length


class _Seen:
    """A set of tokens, as an array with room for more."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self._known = set(tokens)
        self._buffer = np.array([*self._known, *[0] * _AHEAD])

    def __copy__(self) -> _Seen:
        return _Seen(self._known)

    def add(self, token: int) -> None:
        if token in self._known:
            return
        if len(self._known) == len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.zeros_like(self._buffer)])
        self._buffer[len(self._known)] = token
        self._known.add(token)

    @property
    def ids(self) -> np.ndarray:
        return self._buffer[: len(self._known)]
