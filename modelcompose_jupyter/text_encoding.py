"""Texts as other systems write them: UTF-8, or UTF-16 and UTF-32 where a mark says so.

Windows puts a byte order mark before what it saves as UTF-8, and PowerShell's ``>`` writes UTF-16.
The mark is no part of the text, and neither JSON nor YAML has a use for it.
"""

from __future__ import annotations

import codecs
import contextlib

_MARK = "\ufeff"
# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class EncodingError(ValueError):
    """Bytes are no text; says why, and ``hint`` what to do."""

    hint = "Save it as UTF-8."


def has_mark(data: bytes) -> bool:
    """Whether bytes begin with a byte order mark."""
    return data.startswith((codecs.BOM_UTF8, *(mark for mark, _ in _MARKS)))


def decode(data: bytes) -> str:
    """The text that bytes stand for, without byte order marks before it.

    Raises:
        EncodingError: they are no text, or a text in another encoding that has no mark.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        other = None if encoding != "utf-8" else _unmarked(data, 1)
        what = f"is not {encoding.upper()} text (byte {error.start})"
        raise EncodingError(other or f"it {what}") from None
    if other := unmarked(text):
        raise EncodingError(other)
    return without_mark(text)


def without_mark(text: str) -> str:
    """A text without the byte order marks before it, one from each system that it went through."""
    return text.lstrip(_MARK)


def unmarked(text: str) -> str | None:
    """What is wrong with a text that was read as UTF-8, and is UTF-16 or UTF-32 without a mark."""
    if "\0" not in text:
        return None
    data = text.encode("utf-8", "surrogatepass")
    return _unmarked(data, len(data) // 3)


def _unmarked(data: bytes, least: int) -> str | None:
    """Of an ASCII character, and every text has some, such texts have one byte and else zeros."""
    zeros = data.count(0)
    if zeros < least:
        return None
    for name, size, order, own in (
        ("UTF-32", 4, "LE", 0),
        ("UTF-32", 4, "BE", 3),
        ("UTF-16", 2, "LE", 0),
        ("UTF-16", 2, "BE", 1),
    ):
        if data[own::size].count(0) > zeros // 4:  # a few other letters have one there
            continue
        with contextlib.suppress(UnicodeDecodeError):
            if "\0" not in data.decode(f"{name}-{order}"):
                return f"it is {name} without a byte order mark"
    return None
