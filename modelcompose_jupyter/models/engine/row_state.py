"""What a sampler knows of one sequence: a row of the scores of a step."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import numpy as np

from ...errors import ComposeError
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
        constraint: what they must be, as far as they are there; None where they are free.
    """

    __slots__ = (
        "_first", "_numbers", "_seen", "constraint", "params", "position", "sequence",
    )  # fmt: skip

    def __init__(self, params: SamplingParams, sequence: int) -> None:
        self.params = params
        self.sequence = sequence
        self.position = 0
        self._seen = _Seen(params.tokens) if params.repetition_penalty != 1.0 else None
        self.constraint = None if params.constraint is None else params.constraint.copy()
        self._first = 0
        self._numbers: list[float] = []

    def add(self, token: int) -> None:
        """Take the token that was chosen.

        Raises:
            ComposeError: the constraint does not allow it.
        """
        if self.constraint is not None:
            self.constraint.take(token)
        self.position += 1
        if self._seen is not None:
            self._seen.add(token)

    def after(self, tokens: Iterable[int]) -> RowState:
        """A copy of this row, with further tokens."""
        row = copy.copy(self)
        row._seen = copy.copy(self._seen)
        row.constraint = None if self.constraint is None else self.constraint.copy()
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
    def is_complete(self) -> bool:
        """Whether the constraint allows nothing more."""
        return self.constraint is not None and self.constraint.is_complete

    def allowed(self) -> np.ndarray | None:
        """Which tokens may be next, bool [tokens], and none that is beyond; None is all of them.

        A text that must go on, and cannot, may end.
        """
        allowed = None if self.constraint is None else self.constraint.allowed()
        if allowed is None or not self.must_go_on:
            return allowed
        going_on = allowed.copy()
        going_on[[stop for stop in self.params.stop_ids if stop < len(allowed)]] = False
        return going_on if going_on.any() else allowed

    def problem(self) -> ComposeError | None:
        """Why no token may be next, where the constraint allows none."""
        allowed = None if self.constraint is None else self.constraint.allowed()
        if self.constraint is None or allowed is None or allowed.any():
            return None
        return self.constraint.problem()

    def forced(self) -> Sequence[int]:
        """The next tokens, as far as the constraint leaves no choice."""
        return () if self.constraint is None else self.constraint.forced()

    def fitting(self, tokens: Sequence[int]) -> list[int]:
        """As many of some tokens as may be next, and do not complete the text."""
        if self.constraint is None:
            return list(tokens)
        constraint, fitting = self.constraint.copy(), []
        for token in tokens:
            try:
                constraint.take(token)
            except ComposeError:
                break
            if constraint.is_complete:
                break
            fitting.append(token)
        return fitting

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
