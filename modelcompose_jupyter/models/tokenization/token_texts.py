"""What single tokens stand for: an id as a text of its own, whatever stands around it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .detokenizer import Decoder

_ANCHORS = ("a", ".", "0")
"""What a token is decoded behind, since many decoders take the blank from a text's first token."""
_KNOWN = 65_536  # tokens, of which the texts are kept


class TokenText(NamedTuple):
    """What a token stands for by itself.

    Attributes:
        text: of a special token its name, of a part of a character its bytes, such as ``\\xec``.
        bytes: of a part of a character; else None.
    """

    text: str
    bytes: bytes | None = None


class TokenTexts:
    """The texts of a tokenizer's tokens, by their ids."""

    def __init__(self, decode: Decoder) -> None:
        self._decode = decode
        self._anchor, self._anchor_text = self._find_anchor()
        self.of = lru_cache(_KNOWN)(self._of)

    def _find_anchor(self) -> tuple[list[int], str]:
        for text in _ANCHORS:
            ids = self._decode.encoded(text)[-1:]
            if ids and self._decode(ids).strip() == text:
                return ids, self._decode(ids)
        return [], ""

    def _of(self, id: int) -> TokenText:
        name = self._decode.special_name(id)
        if name is not None:
            return TokenText(name)
        raw = self._decode.bytes_of(id)
        if raw is not None and not _is_whole(raw):
            return TokenText("".join(f"\\x{byte:02x}" for byte in raw), bytes=raw)
        text = self._decode([*self._anchor, id])
        if text.startswith(self._anchor_text):
            return TokenText(text[len(self._anchor_text) :])
        return TokenText(self._decode([id]))


def _is_whole(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
