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
        """All tokens but those that complete a marker of which so many characters are there.

        One that has the marker whole is never among them.
        """
        whole = self.of(marker)
        mask = np.ones(self.count, bool)
        if len(whole) == 1:
            mask[whole[0]] = False
        wanted = [marker[length:] for length in begun]
        inner = _spellings(marker)
        starts = tuple(each for rest in wanted for each in _spellings(rest))
        for name, id in self._tokenizer.get_vocab().items():
            if name.startswith(starts) or any(each in name for each in inner):
                mask[id] = False
        mask.flags.writeable = False
        return mask


def _spellings(text: str) -> list[str]:
    return [text, *(text.replace(" ", blank) for blank in _BLANKS)] if " " in text else [text]


def begun(text: str, marker: str) -> tuple[int, ...]:
    """How many characters of a marker a text may end with, short of all."""
    lengths = range(1, min(len(marker), len(text) + 1))
    return tuple(n for n in lengths if marker.startswith(text[-n:]))
