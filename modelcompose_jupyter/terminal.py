"""What a terminal shows: a line that changes in place, and text whose lines end between words."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TextIO

from .translation import localized

_TAB = 8
_DIM, _NOT_DIM = "\033[2m", "\033[22m"
_PARTS = re.compile(r"\n|[^\S\n]+|\S")


class TerminalLine:
    """A progress line on standard error. A context, at whose end it is wiped."""

    is_among_text = True

    def __init__(self) -> None:
        self._shown = ""

    def __enter__(self) -> TerminalLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.show("")

    def show(self, text: str) -> None:
        """Show a text, which may be what is shown already; an empty one wipes the line."""
        text = _within(localized(text), shutil.get_terminal_size().columns - 1)
        if text != self._shown:
            sys.stderr.write(f"\r{' ' * width_of(self._shown)}\r{text}")
            sys.stderr.flush()
            self._shown = text


def _within(text: str, most: int) -> str:
    """A text that no line of a terminal breaks, or it would stay when it is wiped."""
    ends = list(accumulate(map(_width, text)))
    if not ends or ends[-1] <= most:
        return text
    return f"{text[: bisect_right(ends, max(0, most - 1))]}…"


def say(text: str) -> None:
    """Print a message in the language of the environment: of a cell, or in a terminal."""
    print(localized(text))  # noqa: T201


def width_of(text: str) -> int:
    """How many columns a text takes, about."""
    return sum(map(_width, text))


class WordWrap:
    """Writes a text that comes in pieces, with line ends where a word would not fit.

    The word that is still coming is held back, unless it is longer than a line, which the terminal
    breaks itself. Between characters of double width, as Chinese has them, a line may end.

    Args:
        write: takes what is ready.
        columns: the width of a line, in columns; looked up for each word, since it may change.
    """

    def __init__(self, write: Callable[[str], object], columns: Callable[[], int]) -> None:
        self._write = write
        self._columns = columns
        self._column = 0
        self._space = ""
        self._word = ""
        self._width = 0
        self._is_long = False

    def __call__(self, text: str) -> None:
        """Take in a piece of the text. A line end writes all that came before it."""
        ready: list[str] = []
        for part in _PARTS.findall(text):
            if self._is_long and not part.isspace():
                ready.append(part)
                self._column = (self._column + _width(part)) % max(1, self._columns())
                continue
            self._is_long = False
            if part == "\n":
                ready += [self._taken(), self._space, "\n"]
                self._space, self._column = "", 0
            elif part.isspace():
                ready.append(self._taken())
                self._space += part
            else:
                width = _width(part)
                if width == 2:
                    ready.append(self._taken())
                self._word += part
                self._width += width
                self._is_long = width < 2 and self._width >= self._columns()
                if width == 2 or self._is_long:
                    ready.append(self._taken())
        if any(ready):
            self._write("".join(ready))

    def _taken(self) -> str:
        """The word, with the space before it or on a line of its own."""
        if not self._word:
            return ""
        word, space, width = self._word, self._space, self._width
        after = self._column
        for each in space:
            after += _TAB - after % _TAB if each == "\t" else _width(each)
        self._word, self._space, self._width = "", "", 0
        columns = max(1, self._columns())
        if self._column and after + width > columns:
            space, after = "\n", 0
        self._column = after + width if after + width <= columns else (after + width) % columns
        return space + word


def _width(character: str) -> int:
    """How many columns a character takes, about."""
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def for_terminal(stream: TextIO) -> Callable[[str], object]:
    """What writes a text to a stream as it comes: with line ends between words where that is a
    terminal, else as it is."""

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    if not stream.isatty():
        return write
    return WordWrap(write, _columns)


def for_thoughts(stream: TextIO) -> Callable[[str], object] | None:
    """What writes thoughts to a stream, dimmed; None where that is no terminal, which is for what
    was asked for."""
    if not stream.isatty():
        return None

    def write(text: str) -> None:
        stream.write(f"{_DIM}{text}{_NOT_DIM}")
        stream.flush()

    return WordWrap(write, _columns)


def _columns() -> int:
    return shutil.get_terminal_size().columns - 1
