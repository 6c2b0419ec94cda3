"""Whether guessing the next tokens of a text pays."""

from __future__ import annotations

_TRIED = 16
_PAUSE = 32


class SpeculationThrottle:
    """Where few guesses come true, guessing pauses for a while."""

    def __init__(self) -> None:
        self.draft_tokens = 0
        self.accepted_tokens = 0
        self._recent = (0, 0)
        self._pause = 0

    @property
    def willing(self) -> bool:
        """Asked once for each step."""
        if self._pause:
            self._pause -= 1
            return False
        return True

    def learn(self, draft_tokens: int, accepted_tokens: int) -> None:
        """How a guess did."""
        self.draft_tokens += draft_tokens
        self.accepted_tokens += accepted_tokens
        tried, right = self._recent[0] + draft_tokens, self._recent[1] + accepted_tokens
        if tried >= _TRIED:
            if right * 4 < tried:
                self._pause = _PAUSE
            tried = right = 0
        self._recent = tried, right
