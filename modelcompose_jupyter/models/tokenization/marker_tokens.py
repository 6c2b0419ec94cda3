"""The tokens that write markers of thoughts, and those that would complete one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .detokenizer import Decoder
from .thinking import Markers
from .token_texts import TokenTexts

_BLANKS = ("\u0120", "\u2581")
"""How blanks stand in vocabularies: of bytes, and of SentencePiece."""


class MarkerTokens:
    """Markers of thoughts in the tokens of one tokenizer.

    Attributes:
        count: how many tokens there are.
    """

    def __init__(self, tokenizer: Any, decode: Decoder, texts: TokenTexts) -> None:
        self._tokenizer = tokenizer
        self._decode = decode
        self._texts = texts
        self.count = len(tokenizer)
        self.of = lru_cache(self._of)
        self.not_completing = lru_cache(self._not_completing)

    def can_write(self, markers: Markers) -> bool:
        """Whether tokens of the markers give their texts again: some tokenizers change texts."""
        return all(
            marker in "".join(self._texts.of(id).text for id in self.of(marker))
            for marker in (markers.opening, markers.closing, markers.turn + markers.answer)
        )

    def only(self, ids: Sequence[int]) -> np.ndarray:
        """A mask of these tokens, bool [tokens]."""
        mask = np.zeros(self.count, bool)
        mask[list(ids)] = True
        return mask

    def _of(self, marker: str) -> tuple[int, ...]:
        """The tokens of a marker."""
        return tuple(self._decode.encoded(marker))

    def _not_completing(self, marker: str, begun: tuple[int, ...]) -> np.ndarray:
        """All tokens but those that complete a marker of which so many characters are there; a
        marker that is a token of its own is that token alone."""
        mask = np.ones(self.count, bool)
        whole = self.of(marker)
        mask[list(whole) if len(whole) == 1 else self._completing(marker, begun)] = False
        mask.flags.writeable = False
        return mask

    def _completing(self, marker: str, begun: tuple[int, ...]) -> list[int]:
        starts = tuple(each for length in begun for each in _spellings(marker[length:]))
        inner = _spellings(marker)
        return [
            id
            for name, id in self._tokenizer.get_vocab().items()
            if name.startswith(starts) or any(each in name for each in inner)
        ]


def _spellings(text: str) -> list[str]:
    return [text, *(text.replace(" ", blank) for blank in _BLANKS)] if " " in text else [text]


def begun(text: str, marker: str) -> tuple[int, ...]:
    """How many characters of a marker a text may end with, short of all."""
    lengths = range(1, min(len(marker), len(text) + 1))
    return tuple(n for n in lengths if marker.startswith(text[-n:]))
