"""How much of a prompt a step takes, so that those who already get tokens hardly wait for it."""

from __future__ import annotations

_FIRST = 128
_LEAST = 8
_MOST = 1024
_STEPS = 1.5
"""So many steps without one does a part of a prompt take where somebody gets tokens."""
_ALONE_SECONDS = 0.25
"""What a step takes at most where nobody gets tokens: so long does Stop take."""


class PrefillChunkSize:
    """Learns what a step takes from those that were done."""

    def __init__(self) -> None:
        self._row_step: float | None = None
        self._prompt_token: float | None = None

    def chunk(self, rows: int) -> int:
        """How many tokens of prompts the next step takes, beside one for each row."""
        if self._prompt_token is None:
            return _FIRST if not rows else _LEAST
        seconds = _ALONE_SECONDS
        if rows:
            seconds = _STEPS * (self._row_step or self._prompt_token * rows)
        return max(_LEAST, min(_MOST, int(seconds / self._prompt_token)))

    def took(self, rows: int, prompt_tokens: int, seconds: float) -> None:
        """Learn from a step."""
        if not prompt_tokens:
            self._row_step = _mix(self._row_step, seconds)
        elif prompt_tokens >= _LEAST:
            own = max(seconds - (self._row_step or 0.0), seconds / 2) if rows else seconds
            self._prompt_token = _mix(self._prompt_token, own / prompt_tokens)


def _mix(known: float | None, new: float) -> float:
    return new if known is None else 0.7 * known + 0.3 * new
