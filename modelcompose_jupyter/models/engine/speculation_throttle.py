"""Whether speculation pays for a sequence."""

from __future__ import annotations

_WINDOW = 16
"""Draft tokens over which the acceptance rate is taken."""
_LEAST_ACCEPTED = 1 / 4
_PAUSE = 32  # steps


class SpeculationThrottle:
    """Pauses speculation for a while where few draft tokens are accepted.

    Attributes:
        draft_tokens, accepted_tokens: all so far.
    """

    def __init__(self) -> None:
        self.draft_tokens = 0
        self.accepted_tokens = 0
        self._recent_draft = 0
        self._recent_accepted = 0
        self._pause = 0

    def allows(self) -> bool:
        """Whether to speculate in this step; to be asked once for each."""
        if self._pause:
            self._pause -= 1
            return False
        return True

    def record(self, draft_tokens: int, accepted_tokens: int) -> None:
        """Count the draft tokens of a step."""
        self.draft_tokens += draft_tokens
        self.accepted_tokens += accepted_tokens
        self._recent_draft += draft_tokens
        self._recent_accepted += accepted_tokens
        if self._recent_draft >= _WINDOW:
            if self._recent_accepted < _LEAST_ACCEPTED * self._recent_draft:
                self._pause = _PAUSE
            self._recent_draft = self._recent_accepted = 0
