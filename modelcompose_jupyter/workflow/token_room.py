"""How many tokens may be told of runs that go on, with all of their alternatives.

Texts are short beside what can be said of their tokens, so whoever runs texts for others bounds it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

MOST_FOR_GUESTS = 2_000_000
"""Tokens and alternatives that runs of all guests together may have which have not ended: about
600 MB."""

FULL = "not all tokens were told: guests have asked for too many log-probabilities at once"


class TokenRoom:
    """Room that runs share. Any thread.

    Args:
        most: tokens and alternatives; None is any number.
    """

    def __init__(self, most: int | None) -> None:
        self._left = most
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Take room, if there is so much."""
        if self._left is None:
            return True
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
        return True

    def give_back(self, count: int) -> None:
        if self._left is not None:
            with self._lock:
                self._left += count


class ToldTokens:
    """What is told of one call's tokens: as much as there is room for.

    Attributes:
        is_full: whether there was more.
    """

    def __init__(self, room: TokenRoom) -> None:
        self.is_full = False
        self._room = room
        self._taken = 0

    def may_tell(self, tokens: Sequence[Mapping[str, Any]]) -> bool:
        """Whether there is room for more tokens; where there is none, no later ones are told."""
        count = sum(1 + len(each.get("alternatives", ())) for each in tokens)
        if self.is_full or not self._room.take(count):
            self.is_full = True
            return False
        self._taken += count
        return True

    def end(self) -> None:
        """Give the room back: the run has ended, or soon will."""
        self._room.give_back(self._taken)
        self._taken = 0
