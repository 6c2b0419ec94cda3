"""Texts of a diagram: cut to what fits, and without what would steer what shows them."""

from __future__ import annotations

import itertools
import unicodedata
from typing import Protocol

from ..redaction import redact
from ..translation import filled

LABEL, DETAIL, WORD, LINE, SPOKEN = 28, 36, 60, 120, 1000
"""How many columns of text are shown of a job's id and of other words in a box, of a word in plain
text, of a whole graph on one line, and of one that is read aloud."""


class Say(Protocol):
    """A template of a few words in a language, with parts of a document at its placeholders."""

    def __call__(self, template: str, /, *values: str) -> str: ...


def in_language(language: str) -> Say:
    """What says things in a language."""

    def say(template: str, /, *values: str) -> str:
        return filled(template, *values, language=language)

    return say


def clean(text: str) -> str:
    """Text on one line, without characters that steer terminals or that XML forbids."""
    return "".join(map(_printable, " ".join(redact(text).split())))


def _printable(char: str) -> str:
    steers = unicodedata.category(char) in ("Cc", "Cs") or char in "\ufffe\uffff"
    return "\N{REPLACEMENT CHARACTER}" if steers else char


def columns(text: str) -> int:
    """How wide a text is, in columns of a terminal."""
    return sum(map(_char_columns, text))


def _char_columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, most: int) -> str:
    """A text, or its beginning where it is wider than so many columns."""
    if columns(text) <= most:
        return text
    ends = itertools.accumulate(map(_char_columns, text))
    return "".join(char for char, end in zip(text, ends, strict=True) if end < most) + "…"
