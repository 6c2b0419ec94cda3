"""Whether guessing the next tokens of a text pays."""

from __future__ import annotations

_TRIED = 16
_PAUSE = 32


class Patience:
    """Where few guesses come true, guessing pauses for a while."""

    def __init__(self) -> None:
        self.guessed = 0
        self.came_true = 0
        self._recent = (0, 0)
        self._pause = 0

    @property
    def willing(self) -> bool:
        """Asked once for each step."""
        if self._pause:
            self._pause -= 1
            return False
        return True

    def learn(self, guessed: int, came_true: int) -> None:
        """How a guess did."""
        self.guessed += guessed
        self.came_true += came_true
        tried, right = self._recent[0] + guessed, self._recent[1] + came_true
        if tried >= _TRIED:
            if right * 4 < tried:
                self._pause = _PAUSE
            tried = right = 0
        self._recent = tried, right
