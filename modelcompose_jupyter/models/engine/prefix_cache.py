"""Keys and values of earlier texts, for prompts that begin as they do."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch

from .. import memory

_MOST = 256


@dataclass(frozen=True, eq=False)
class Prefix:
    """``data`` is [layers, 2, heads, tokens, head size], of ``tokens`` from the beginning.

    It may be a part of larger memory, all of which it keeps.
    """

    tokens: np.ndarray
    data: torch.Tensor

    @property
    def bytes(self) -> int:
        return int(self.data.untyped_storage().nbytes())


def in_common(first: np.ndarray, second: np.ndarray) -> int:
    """How many tokens two texts have in common at their beginning."""
    length = min(len(first), len(second))
    differ = first[:length] != second[:length]
    return int(differ.argmax()) if differ.any() else length


class PrefixCache:
    """What was used least recently goes first, when there is more than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._prefixes: OrderedDict[int, Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._prefixes)

    def find(self, tokens: np.ndarray) -> tuple[Prefix | None, int]:
        """The text with the longest beginning in common, and how long that is."""
        best, longest = None, 0
        for key, prefix in self._prefixes.items():
            length = in_common(prefix.tokens, tokens)
            if length > longest:
                best, longest = key, length
        if best is None:
            return None, 0
        self._prefixes.move_to_end(best)
        return self._prefixes[best], longest

    def keep(self, tokens: np.ndarray, data: torch.Tensor, *, copy: bool = True) -> None:
        """Keep a text's keys and values; those of its beginnings are let go.

        Args:
            copy: ``data`` is in use elsewhere; if not, it must not be from now on.
        """
        size = data.nbytes if copy else data.untyped_storage().nbytes()
        if not len(tokens) or size > self.limit:
            return
        for key, prefix in list(self._prefixes.items()):
            shared = in_common(prefix.tokens, tokens)
            if shared == len(tokens):
                self._prefixes.move_to_end(key)
                return
            if shared == len(prefix.tokens):
                self._drop(key)
        try:
            prefix = Prefix(tokens, data.clone() if copy else data)
        except Exception as error:
            if memory.is_out_of_memory(error):
                return
            raise
        self._prefixes[id(prefix)] = prefix
        self.bytes += prefix.bytes
        while self.bytes > self.limit or len(self._prefixes) > _MOST:
            self.drop_oldest()

    def drop_oldest(self) -> bool:
        """Let one go; whether there was one."""
        if not self._prefixes:
            return False
        self._drop(next(iter(self._prefixes)))
        return True

    def _drop(self, key: int) -> None:
        self.bytes -= self._prefixes.pop(key).bytes
