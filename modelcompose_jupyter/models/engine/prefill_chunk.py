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


_STEPS_TO_MEASURE = 32
"""With chunks, after which there is one without: where prompts come without end, nothing else would
tell how long the others take by themselves, and chunks would be sized by what was long ago."""


class PrefillChunkSize:
    """The size of the next chunk, from the measured times of earlier steps."""

    def __init__(self) -> None:
        self._decode_seconds: float | None = None  # of a step without a chunk
        self._decoding = 0  # sequences that decoded in it
        self._steps_since = 0
        self._token_seconds: float | None = None  # that a prompt's token adds to a step

    def chunk(self, decoding: int) -> int:
        """Most tokens of prompts in a step in which so many sequences decode. None, now and then:
        how long these take by themselves is to be measured."""
        if self._token_seconds is None:
            return _LEAST if decoding else _FIRST
        step = self._decode_seconds or 0.0
        if decoding:
            if not step or self._steps_since >= _STEPS_TO_MEASURE or self._is_other(decoding):
                return 0
            seconds = _DECODE_STEPS * step
        else:
            seconds = max(_ALONE_SECONDS, _ALONE_STEPS * step) - step
        return max(_LEAST, min(_MOST, int(seconds / self._token_seconds)))

    def record(self, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """Take the time of a step into account."""
        self._steps_since += 1
        if not prompt_tokens:
            known = None if self._is_other(decoding) else self._decode_seconds
            self._decode_seconds = _average(known, seconds)
            self._decoding, self._steps_since = decoding, 0
        elif prompt_tokens >= _LEAST:
            own = max(seconds - (self._decode_seconds or 0.0), seconds / 2)
            self._token_seconds = _average(self._token_seconds, own / prompt_tokens)

    def _is_other(self, decoding: int) -> bool:
        """Whether so many sequences take another time than those that were measured."""
        return not self._decoding <= 2 * decoding <= 4 * self._decoding


def _average(average: float | None, new: float) -> float:
    """A moving average."""
    return new if average is None else 0.7 * average + 0.3 * new
