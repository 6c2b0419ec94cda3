"""What computes the steps of a model, whether in C or on torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .kv_cache import KVCache, Slab, Slot
from .row_state import RowState


class Sampler(Protocol):
    """Chooses the tokens of a step."""

    def pick(self, scores: Any, rows: Sequence[RowState]) -> tuple[Any, Any]:
        """The next token of each row, [rows] int64, and whether its scores are finite, [rows] bool.

        Where they are not the token is 0. Both have ``tolist``.
        """


class Runner(Protocol):
    """Runs forward passes of a model with the tokens of many sequences.

    Only its engine's thread may use it.

    Attributes:
        vocabulary: how many scores a token gets.
        cache: keys and values of its sequences.
        threads: how many compute; ``most_threads`` are there.
    """

    vocabulary: int
    cache: KVCache
    most_threads: int
    threads: int

    def forward(
        self,
        tokens: Sequence[int],
        wanted: Sequence[int],
        slabs: Sequence[Slab] = (),
        spans: Sequence[tuple[Slot, int]] = (),
    ) -> Any:
        """One step, within `inference`. The slots' lengths stay as they are.

        Args:
            tokens: first one for each row of each slab, then those of the spans.
            wanted: which of the tokens the next ones are asked of.
            slabs: those of which each row in use gets one token.
            spans: slots with how many tokens each gets.

        Returns:
            Scores of the next token, [wanted, vocabulary].
        """

    def sampler(self) -> Sampler:
        """A new one, of such scores."""

    def inference(self) -> AbstractContextManager[Any]:
        """The context in which all of this, and what the cache does, happens."""


class Unsupported(Exception):
    """The scheduler cannot run a model; says why.

    Attributes:
        is_changed: whether the model's modules have been replaced already.
    """

    is_changed = False
