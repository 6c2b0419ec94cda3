"""Chunked prefill: how many prompt tokens a step computes beside the sequences that decode.

Large chunks read a prompt quickly, and make everybody else wait for their next token. So the size
follows from how long steps have taken.
"""

from __future__ import annotations

_FIRST = 128
"""Tokens of the first chunk, before anything was measured, where no sequence decodes."""
_LEAST = 8
_MOST = 1024
_DECODE_STEPS = 1.5
"""How long a chunk may take while others decode, in steps without a chunk."""
_ALONE_SECONDS = 0.25
"""How long a chunk may take while none decodes. A step is not interrupted, so Stop waits for it."""
_ALONE_STEPS = 4
"""Or in steps without a chunk, of a model that takes long to read its weights for any of them."""
_MEASURED_STEPS = 32
"""After so many steps there is one without a chunk: where prompts come without end, nothing else
would tell how long the others take by themselves: chunks would be sized by what was long ago."""
_LEAST_STEPS = 4
"""At least so many are between two of those, however often the number of the others changes."""


class PrefillChunkSize:
    """The size of the next chunk, from the measured times of earlier steps."""

    def __init__(self) -> None:
        self._decode_seconds: float | None = None  # of a step without a chunk
        self._decoding = 0  # sequences that decoded in it
        self._token_seconds: float | None = None  # that a prompt's token adds to a step
        self._steps_since = _MEASURED_STEPS  # one without a chunk

    def is_without(self, decoding: int) -> bool:
        """Whether this step, in which so many sequences decode, is to have no chunk, so that their
        own time is measured. Asked once for each step."""
        self._steps_since += 1
        most = _LEAST_STEPS if self._is_another_load(decoding) else _MEASURED_STEPS
        if not decoding or self._token_seconds is None or self._steps_since <= most:
            return False
        self._steps_since = 0
        return True

    def chunk(self, decoding: int) -> int:
        """Most tokens of prompts in a step in which so many sequences decode."""
        if self._token_seconds is None:
            return _LEAST if decoding else _FIRST
        step = self._decode_seconds or 0.0
        if decoding:
            seconds = _DECODE_STEPS * (step or self._token_seconds * decoding)
        else:
            seconds = max(_ALONE_SECONDS, _ALONE_STEPS * step) - step
        return max(_LEAST, min(_MOST, int(seconds / self._token_seconds)))

    def record(self, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """Take the time of a step into account."""
        if not prompt_tokens:
            known = None if self._is_another_load(decoding) else self._decode_seconds
            self._decode_seconds, self._decoding = _average(known, seconds), decoding
            self._steps_since = 0
        elif prompt_tokens >= _LEAST:
            own = max(seconds - (self._decode_seconds or 0.0), seconds / 2)
            self._token_seconds = _average(self._token_seconds, own / prompt_tokens)

    def _is_another_load(self, decoding: int) -> bool:
        """Whether so many sequences take another time than those that were measured."""
        return not self._decoding <= 2 * decoding <= 4 * self._decoding


def _average(average: float | None, new: float) -> float:
    """A moving average."""
    return new if average is None else 0.7 * average + 0.3 * new
