"""Texts of grammars, byte by byte: whether one is of a grammar, and those that chance makes."""

from __future__ import annotations

import random

import numpy as np
from llguidance import LLMatcher

from modelcompose_jupyter.document.grammars import _bytes_as_tokens, limits

END = 256


def matcher(grammar: str) -> LLMatcher:
    made = LLMatcher(_bytes_as_tokens(), grammar, log_level=0, limits=limits())
    assert not made.is_error(), made.get_error()
    return made


def accepts(grammar: str, text: str) -> bool:
    """Whether a text is of a grammar, whole."""
    found, written = matcher(grammar), list(text.encode())
    return bool(found.try_consume_tokens(written) == len(written) and found.is_accepting())


def drawn(grammar: str, seed: int, most: int = 2000) -> str | None:
    """A text that chance makes, of bytes that may be next; None where it is longer than ``most``.

    It goes on less readily the longer it is, so that it ends.
    """
    draw, state, written = random.Random(seed), matcher(grammar), bytearray()
    closing = [ord(each) for each in '"]}']
    while len(written) < most:
        bits = np.frombuffer(state.compute_bitmask(), np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, count=END + 1, bitorder="little")).tolist()
        ends = [each for each in closing if each in allowed]
        if END in allowed and (len(allowed) == 1 or draw.random() < 0.3):
            return written.decode()
        if ends and draw.random() < 0.2 + len(written) / most:
            next_ = draw.choice(ends)
        else:
            next_ = draw.choice([each for each in allowed if each != END])
        assert state.consume_token(next_)
        written.append(next_)
        if state.is_stopped():
            return written.decode()
    return None
