"""Prefix cache: keys and values of earlier sequences, for prompts with the same first tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import memory
from .kv_cache import Kept

_MOST = 256


@dataclass(frozen=True, eq=False)
class Prefix:
    """The tokens of an earlier sequence, and their keys and values.

    Attributes:
        kept: what a slot had.
        bytes: what is kept with that, which may be a view of more.
    """

    tokens: np.ndarray
    kept: Kept
    bytes: int


def in_common(first: np.ndarray, second: np.ndarray) -> int:
    """The length of the common prefix of two sequences of tokens."""
    length = min(len(first), len(second))
    differ = first[:length] != second[:length]
    return int(differ.argmax()) if differ.any() else length


class PrefixCache:
    """Evicts what was used least recently where it has more than ``limit`` bytes.

    Args:
        cuts: whether what is kept of a sequence serves for its beginnings, too.
    """

    def __init__(self, limit: int, cuts: bool = True) -> None:
        self.limit = limit
        self._cuts = cuts
        self.bytes = 0
        self._prefixes: OrderedDict[Prefix, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._prefixes)

    def find(self, tokens: np.ndarray) -> tuple[Prefix | None, int]:
        """The cached sequence with the longest common prefix, and the length of that.

        Where none can be cut: that of which all is a prefix.
        """
        best, longest = None, 0
        for prefix in self._prefixes:
            length = in_common(prefix.tokens, tokens)
            if length > longest and (self._cuts or length == len(prefix.tokens)):
                best, longest = prefix, length
        if best is not None:
            self._prefixes.move_to_end(best)
        return best, longest

    def keep(self, tokens: np.ndarray, size: int, take: Callable[[], Kept]) -> None:
        """Keep a sequence's keys and values; those of its own prefixes are dropped, if it serves
        for them.

        Args:
            size: bytes that they take.
            take: gives them, to be used by nobody else from now on.
        """
        if not len(tokens) or size > self.limit:
            return
        for prefix in list(self._prefixes):
            shared = in_common(prefix.tokens, tokens)
            if shared == len(tokens) and (self._cuts or shared == len(prefix.tokens)):
                self._prefixes.move_to_end(prefix)
                return
            if shared == len(prefix.tokens) and self._cuts:
                self._drop(prefix)
        try:
            prefix = Prefix(tokens, take(), size)
        except Exception as error:
            if memory.is_out_of_memory(error):
                return
            raise
        self._prefixes[prefix] = None
        self.bytes += prefix.bytes
        while self.bytes > self.limit or len(self._prefixes) > _MOST:
            self.drop_oldest()

    def drop_oldest(self) -> bool:
        """Drop the least recently used; whether there was one."""
        if not self._prefixes:
            return False
        self._drop(next(iter(self._prefixes)))
        return True

    def _drop(self, prefix: Prefix) -> None:
        del self._prefixes[prefix]
        self.bytes -= prefix.bytes
